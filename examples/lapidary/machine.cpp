#include "machine.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>

#include "lapidary/base/buffer.h"
#include "lapidary/base/highway-inl.h"
#include "lapidary/base/threads.h"
#include "terminal.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary::cli {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Reads `words` and returns something that depends on all of them. kStreams places are read in
// turn, a kStreams-th of the part away from each other: how many of them keep the memory busiest
// differs between machines.
template <std::size_t kStreams>
std::uint64_t ReadAll(const std::uint64_t* words, std::size_t count) {
  const hn::CappedTag<std::uint64_t, 8> d;
  constexpr std::size_t kStep = 4 * HWY_MAX_LANES_D(decltype(d));
  const std::size_t stream = count / kStreams / kStep * kStep;
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (std::size_t i = 0; i < stream; i += kStep) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      const std::uint64_t* at = words + s * stream + i;
      s0 = hn::Add(s0, hn::LoadU(d, at));
      s1 = hn::Add(s1, hn::LoadU(d, at + kStep / 4));
      s2 = hn::Add(s2, hn::LoadU(d, at + kStep / 2));
      s3 = hn::Add(s3, hn::LoadU(d, at + kStep / 4 * 3));
    }
  }
  return hn::ReduceSum(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

constexpr auto kReaders = {ReadAll<1>, ReadAll<2>, ReadAll<4>};

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary::cli
HWY_AFTER_NAMESPACE();

namespace lapidary::cli {

Result<double> MeasureReadBandwidth(std::size_t threads, int passes) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  Result<AlignedBuffer> buffer = AlignedBuffer::Allocate(kBytes, "the measurement of the memory");
  if (!buffer) return buffer.error();
  const std::span<std::uint64_t> words = buffer->As<std::uint64_t>();
  ThreadPool pool(threads);
  pool.Run([&](std::size_t thread) {
    const Range part = PartOf(words.size(), thread, pool.size());
    std::fill(words.begin() + static_cast<std::ptrdiff_t>(part.begin),
              words.begin() + static_cast<std::ptrdiff_t>(part.end), 1);
  });
  double best = 0;
  std::atomic<std::uint64_t> sink = 0;  // keeps the reads from being optimised away
  for (int i = 0; i < passes; ++i) {
    for (const auto read : HWY_NAMESPACE::kReaders) {
      const Stopwatch watch;
      pool.Run([&](std::size_t thread) {
        const Range part = PartOf(words.size(), thread, pool.size());
        sink += read(words.data() + part.begin, part.end - part.begin);
      });
      best = std::max(best, static_cast<double>(kBytes) / watch.seconds());
    }
  }
  return best;
}

}  // namespace lapidary::cli
