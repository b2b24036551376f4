// XXH64 (xxHash specification, section "XXH64"), the checksum of blob sections: finds damage, at
// the speed of memory. It is no protection against somebody who changes a file on purpose.
#ifndef LAPIDARY_BASE_XXHASH64_H_
#define LAPIDARY_BASE_XXHASH64_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "lapidary/base/bytes.h"

namespace lapidary {

// Feed bytes in pieces of any size; digest() may be asked at any time. The seed is 0.
class XxHash64 {
 public:
  void Update(std::span<const std::uint8_t> bytes) {
    length_ += bytes.size();
    if (pending_ > 0) {
      const std::size_t take = std::min(kStripe - pending_, bytes.size());
      std::memcpy(stripe_.data() + pending_, bytes.data(), take);
      pending_ += take;
      bytes = bytes.subspan(take);
      if (pending_ < kStripe) return;
      Consume(stripe_.data(), 1);
      pending_ = 0;
    }
    const std::size_t stripes = bytes.size() / kStripe;
    Consume(bytes.data(), stripes);
    bytes = bytes.subspan(stripes * kStripe);
    if (!bytes.empty()) std::memcpy(stripe_.data(), bytes.data(), bytes.size());
    pending_ = bytes.size();
  }

  std::uint64_t digest() const {
    std::uint64_t hash = kPrime5;
    if (length_ >= kStripe) {
      hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
             std::rotl(lanes_[3], 18);
      for (const std::uint64_t lane : lanes_) hash = (hash ^ Round(0, lane)) * kPrime1 + kPrime4;
    }
    hash += length_;
    const std::uint8_t* rest = stripe_.data();
    std::size_t left = pending_;
    for (; left >= 8; rest += 8, left -= 8) {
      hash ^= Round(0, LoadLittleEndian<std::uint64_t>(rest));
      hash = std::rotl(hash, 27) * kPrime1 + kPrime4;
    }
    if (left >= 4) {
      hash ^= std::uint64_t{LoadLittleEndian<std::uint32_t>(rest)} * kPrime1;
      hash = std::rotl(hash, 23) * kPrime2 + kPrime3;
      rest += 4;
      left -= 4;
    }
    for (; left > 0; ++rest, --left) {
      hash ^= *rest * kPrime5;
      hash = std::rotl(hash, 11) * kPrime1;
    }
    hash = (hash ^ (hash >> 33)) * kPrime2;
    hash = (hash ^ (hash >> 29)) * kPrime3;
    return hash ^ (hash >> 32);
  }

 private:
  static constexpr std::size_t kStripe = 32;
  static constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87u;
  static constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4Fu;
  static constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9u;
  static constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63u;
  static constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5u;

  static std::uint64_t Round(std::uint64_t lane, std::uint64_t input) {
    return std::rotl(lane + input * kPrime2, 31) * kPrime1;
  }

  void Consume(const std::uint8_t* bytes, std::size_t stripes) {
    std::array<std::uint64_t, 4> lanes = lanes_;
    for (std::size_t s = 0; s < stripes; ++s) {
      for (std::size_t i = 0; i < 4; ++i) {
        lanes[i] = Round(lanes[i], LoadLittleEndian<std::uint64_t>(bytes + s * kStripe + 8 * i));
      }
    }
    lanes_ = lanes;
  }

  std::array<std::uint64_t, 4> lanes_ = {kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
  std::array<std::uint8_t, kStripe> stripe_ = {};
  std::size_t pending_ = 0;
  std::uint64_t length_ = 0;
};

inline std::uint64_t HashBytes(std::span<const std::uint8_t> bytes) {
  XxHash64 hash;
  hash.Update(bytes);
  return hash.digest();
}

}  // namespace lapidary

#endif  // LAPIDARY_BASE_XXHASH64_H_
