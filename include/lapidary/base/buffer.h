// Large aligned memory whose allocation can fail without ending the program: packed weights, KV
// caches, workspaces.
#ifndef LAPIDARY_BASE_BUFFER_H_
#define LAPIDARY_BASE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "lapidary/base/result.h"

namespace lapidary {

// Owns `size()` bytes that begin at a multiple of 64, the width of the widest vector and of a cache
// line. Movable; pointers into it stay valid when it moves.
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;
  // From this size on the memory begins on a 2 MiB boundary and the system is asked for huge pages:
  // one entry of the TLB then covers what 512 would.
  static constexpr std::size_t kHugePage = std::size_t{1} << 21;

  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept { *this = std::move(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(alignment_, other.alignment_);
    return *this;
  }
  ~AlignedBuffer() {
    if (data_ != nullptr) ::operator delete(data_, alignment_);
  }

  // The bytes are not initialised. Zero bytes are a valid, empty buffer. kOutOfMemory if the system
  // refuses; `what` names the purpose in that message.
  static Result<AlignedBuffer> Allocate(std::size_t bytes, const char* what) {
    AlignedBuffer buffer;
    if (bytes == 0) return buffer;
    const bool huge = bytes >= kHugePage;
    buffer.alignment_ = std::align_val_t{huge ? kHugePage : kAlignment};
    buffer.data_ =
        static_cast<std::uint8_t*>(::operator new(bytes, buffer.alignment_, std::nothrow));
    if (buffer.data_ == nullptr) {
      return MakeError(ErrorCode::kOutOfMemory, "cannot allocate ", bytes, " bytes for ", what);
    }
    buffer.size_ = bytes;
#if defined(__linux__)
    // A wish only: where huge pages are switched off this fails and nothing is lost.
    if (huge) madvise(buffer.data_, bytes - bytes % kHugePage, MADV_HUGEPAGE);
#endif
    return buffer;
  }

  std::uint8_t* data() { return data_; }
  const std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

  // The same bytes as an array of numbers; a rest that fills no whole number is left out.
  template <class T>
  std::span<T> As() {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kAlignment);
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }
  template <class T>
  std::span<const T> As() const {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kAlignment);
    return {reinterpret_cast<const T*>(data_), size_ / sizeof(T)};
  }

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  std::align_val_t alignment_{kAlignment};
};

}  // namespace lapidary

#endif  // LAPIDARY_BASE_BUFFER_H_
