#include "machine.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>

#include "hwy/highway.h"
#include "lapidary/base/buffer.h"
#include "lapidary/base/threads.h"
#include "terminal.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary::cli {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Reads `words` and returns something that depends on all of them. Four streams, as far apart as a
// quarter of the part: one alone does not keep the memory busy on every machine.
std::uint64_t ReadAll(const std::uint64_t* words, std::size_t count) {
  const hn::CappedTag<std::uint64_t, 8> d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t stream = count / 4 / (2 * lanes) * (2 * lanes);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (std::size_t i = 0; i < stream; i += 2 * lanes) {
    const std::uint64_t* at = words + i;
    s0 = hn::Add(s0, hn::Xor(hn::LoadU(d, at), hn::LoadU(d, at + lanes)));
    at += stream;
    s1 = hn::Add(s1, hn::Xor(hn::LoadU(d, at), hn::LoadU(d, at + lanes)));
    at += stream;
    s2 = hn::Add(s2, hn::Xor(hn::LoadU(d, at), hn::LoadU(d, at + lanes)));
    at += stream;
    s3 = hn::Add(s3, hn::Xor(hn::LoadU(d, at), hn::LoadU(d, at + lanes)));
  }
  return hn::ReduceSum(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

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
    const Stopwatch watch;
    pool.Run([&](std::size_t thread) {
      const Range part = PartOf(words.size(), thread, pool.size());
      sink += HWY_STATIC_DISPATCH(ReadAll)(words.data() + part.begin, part.end - part.begin);
    });
    best = std::max(best, static_cast<double>(kBytes) / watch.seconds());
  }
  return best;
}

}  // namespace lapidary::cli
