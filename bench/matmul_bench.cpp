// Activations times packed weights, one core.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bench/kernels.h"
#include "bench/machine.h"
#include "lapidary/base/buffer.h"
#include "lapidary/base/result.h"
#include "lapidary/config/models.h"
#include "lapidary/kernels/coarse-inl.h"
#include "lapidary/kernels/team_matmul-inl.h"
#include "lapidary/weights/quant.h"

namespace lapidary::bench {
namespace {

namespace target = lapidary::HWY_NAMESPACE;

struct Shape {
  const char* name;
  std::size_t rows, cols;
};

// The matrices of a layer, and the output head.
std::array<Shape, 5> ShapesOf(const Config& config) {
  const auto size = [](std::int32_t n) { return static_cast<std::size_t>(n); };
  return {{{"qkv", size(config.queries_width() + 2 * config.kv_width()), size(config.width)},
           {"attention_out", size(config.width), size(config.queries_width())},
           {"gate_up", size(2 * config.ff_width), size(config.width)},
           {"down", size(config.width), size(config.ff_width)},
           {"head", size(config.vocabulary), size(config.width)}}};
}

// Bytes that are valid weights of any format: what matters is that no float among them is infinite,
// not a number or subnormal.
AlignedBuffer MakeWeights(std::size_t bytes) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(bytes, "weights").value();
  constexpr std::size_t kPattern = 65521;  // a prime: neighbouring panels differ
  std::uint32_t state = 1;
  for (std::size_t i = 0; i < std::min(bytes, kPattern); ++i) {
    state = state * 1664525 + 1013904223;
    buffer.data()[i] = static_cast<std::uint8_t>(0x30 + (state >> 24) % 12);
  }
  for (std::size_t i = kPattern; i < bytes; i += kPattern) {
    std::memcpy(buffer.data() + i, buffer.data(), std::min(kPattern, bytes - i));
  }
  return buffer;
}

// `rows` rows of activations in the form that a format wants.
struct Input {
  AlignedBuffer memory;
  target::Activations x;

  Input(std::size_t rows, std::size_t cols, Format format, Precision precision)
      : memory(AlignedBuffer::Allocate(target::ActivationBytes(rows, cols), "activations").value()),
        x(target::BindActivations(memory.data(), rows, cols)) {
    AlignedBuffer row = AlignedBuffer::Allocate(cols * sizeof(float), "a row").value();
    const std::span<float> values = row.As<float>();
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < cols; ++i) {
        values[i] = std::sin(static_cast<float>(r * 31 + i * 7));
      }
      target::StoreActivations(values.data(), 0, cols, target::FormFor(format, precision, rows),
                               precision, x, r);
    }
  }
};

// Of the arithmetic of many rows.
Limit LimitOf(Format format, Precision precision) {
  switch (target::FormFor(format, precision, target::kRowBlock)) {
    case target::kFormBytes:
      return Limit::kInt8;
    case target::kFormPlanes:
    case target::kFormWords:
      return Limit::kInt16;
    case target::kFormBF16:
      return Limit::kBF16;
    default:
      return Limit::kF32;
  }
}

// Rows of activations times all pairs of panels, as a thread multiplies them.
void MultiplyAll(const PackedMatrix& w, const Input& input, std::size_t rows, Precision precision,
                 target::MatMulScratch& room, float* c) {
  for (std::size_t pair = 0; pair < target::CountPairs(w); pair += target::kPairGroup) {
    target::PanelPair group[target::kPairGroup];
    const std::size_t count = std::min(target::kPairGroup, target::CountPairs(w) - pair);
    for (std::size_t i = 0; i < count; ++i) group[i] = target::PairOf(w, pair + i);
    target::MatMulGroup(std::span(group, count), input.x, 0, rows, precision, room, c);
    benchmark::DoNotOptimize(c[0]);
  }
}

// A block of rows, as a thread takes them through the panels; only so many panels that one
// measurement is short, since a panel more takes as long as the last.
void Prefill(benchmark::State& state, Format format, Precision precision, Shape shape) {
  constexpr std::size_t kRows = target::kRowBlock;
  const std::size_t rows = std::min<std::size_t>(shape.rows, 256);
  PackedMatrix w = {.format = format, .rows = rows, .cols = shape.cols, .data = nullptr};
  const AlignedBuffer weights = MakeWeights(w.bytes());
  w.data = weights.data();
  const Input input(kRows, shape.cols, format, precision);
  const AlignedBuffer scratch =
      AlignedBuffer::Allocate(sizeof(target::MatMulScratch), "scratch").value();
  const AlignedBuffer out =
      AlignedBuffer::Allocate(target::kPairGroup * kRows * target::kPairOutputs * sizeof(float),
                              "output")
          .value();
  auto* c = reinterpret_cast<float*>(const_cast<std::uint8_t*>(out.data()));
  auto& room = *reinterpret_cast<target::MatMulScratch*>(const_cast<std::uint8_t*>(scratch.data()));
  for (auto _ : state) MultiplyAll(w, input, kRows, precision, room, c);
  Report(state, 2.0 * static_cast<double>(rows * shape.cols * kRows),
         static_cast<double>(w.bytes()), LimitOf(format, precision));
}

// A step of `rows` sessions, with weights from memory: as many copies of the matrix as make 128 MB
// are read in turn, or the first 128 MB of a larger one.
template <class Cols>
void DecodeWith(benchmark::State& state, std::size_t rows, Format format, Shape shape, Cols cols) {
  constexpr std::size_t kBytes = std::size_t{128} << 20;
  PackedMatrix w = {.format = format, .rows = shape.rows, .cols = shape.cols, .data = nullptr};
  w.rows = std::min(w.rows, kBytes / w.panel_bytes() * kPanelRows);
  const std::size_t copies = std::max<std::size_t>(1, kBytes / w.bytes());
  const AlignedBuffer weights = MakeWeights(copies * w.bytes());
  const Input input(rows, shape.cols, format, Precision::kExact);
  const AlignedBuffer out =
      AlignedBuffer::Allocate(target::kPairGroup * rows * target::kPairOutputs * sizeof(float),
                              "output")
          .value();
  auto* c = reinterpret_cast<float*>(const_cast<std::uint8_t*>(out.data()));
  const AlignedBuffer scratch =
      AlignedBuffer::Allocate(sizeof(target::MatMulScratch), "scratch").value();
  auto& room = *reinterpret_cast<target::MatMulScratch*>(const_cast<std::uint8_t*>(scratch.data()));
  std::size_t copy = 0;
  for (auto _ : state) {
    w.data = weights.data() + copy++ % copies * w.bytes();
    if constexpr (std::is_same_v<Cols, std::size_t>) {
      MultiplyAll(w, input, rows, Precision::kExact, room, c);
    } else {
      for (std::size_t pair = 0; pair < target::CountPairs(w); ++pair) {
        target::matmul::QuantRows<Format::kQ4_0, 1>(target::PairOf(w, pair), cols, input.x, 0, c);
        benchmark::DoNotOptimize(c[0]);
      }
    }
  }
  Report(state, 2.0 * static_cast<double>(rows * w.rows * w.cols), static_cast<double>(w.bytes()),
         rows == 1 ? Limit::kRead : LimitOf(format, Precision::kExact));
}

void Decode(benchmark::State& state, std::size_t rows, Format format, Shape shape) {
  DecodeWith(state, rows, format, shape, shape.cols);
}

// The bounds of the head's coarse pass for kRows rows, with weights from memory: of one row from
// the units alone or with the middle bits, of several always with these.
template <std::size_t kRows>
void Bounds(benchmark::State& state, bool fine, Shape head) {
  constexpr std::size_t kBytes = std::size_t{128} << 20;
  PackedMatrix w = {
      .format = Format::kQ8_0Planes, .rows = head.rows, .cols = head.cols, .data = nullptr};
  w.rows = std::min(w.rows, kBytes / w.panel_bytes() * kPanelRows);
  const AlignedBuffer weights = MakeWeights(w.bytes());
  w.data = weights.data();
  const AlignedBuffer memory =
      AlignedBuffer::Allocate(target::CoarseActivationBytes(kRows, head.cols), "activations")
          .value();
  const target::CoarseActivations x =
      target::BindCoarseActivations(const_cast<std::uint8_t*>(memory.data()), kRows, head.cols);
  std::fill_n(x.fine, x.x.groups(), fine);
  std::vector<float> row(head.cols), variances(x.x.groups()), bounds(kRows * 2);
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t i = 0; i < head.cols; ++i) {
      row[i] = std::sin(static_cast<float>(r * 31 + i * 7));
    }
    target::StoreCoarse(row.data(), x, r);
  }
  target::FindLargestVariances(x, kRows, variances.data());
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < target::CountPairs(w); ++pair) {
      const target::PanelPair both = target::CoarsePairOf(w, pair);
      target::ForRowTiles<target::kCoarseTileRows, 2, 1>(kRows, [&](auto tile_rows, std::size_t r) {
        target::CoarsePair<Format::kQ8_0Planes, tile_rows()>(both, x, variances.data(), r,
                                                             bounds.data() + 2 * r, 2, 1);
      });
      benchmark::DoNotOptimize(bounds[0]);
    }
  }
  std::size_t bytes = w.panels() * SpecOf(w.format).plane_bytes(Plane::kUnits, w.cols);
  if (fine) {
    bytes += w.panels() * SpecOf(w.format).plane_bytes(Plane::kMiddle, w.cols);
  }
  Report(state, 2.0 * kRows * static_cast<double>(w.rows * w.cols), static_cast<double>(bytes),
         kRows == 1 ? Limit::kRead : Limit::kInt8);
}

void DecodeFixed(benchmark::State& state) {
  const Config config = Gemma3_1B::kConfig;
  DecodeWith(state, 1, Format::kQ4_0, ShapesOf(config)[2],
             std::integral_constant<std::size_t, Gemma3_1B::kConfig.width>());
}

}  // namespace

void RegisterMatMul() {
  using benchmark::RegisterBenchmark;
  for (const KnownModel& model : kKnownModels) {
    const std::string size(model.name.substr(model.name.rfind(' ') + 1));
    for (const QuantSpec* spec : kAllSpecs) {
      for (const Shape& shape : ShapesOf(model.config)) {
        if (shape.cols % static_cast<std::size_t>(spec->source_block) != 0) continue;
        const std::string tail = StrCat(spec->name, "/", size, "/", shape.name);
        for (const Precision precision : {Precision::kFast, Precision::kExact}) {
          const char* const name =
              precision == Precision::kFast ? "prefill_fast/" : "prefill_exact/";
          RegisterBenchmark((name + tail).c_str(), Prefill, spec->format, precision, shape)
              ->Unit(benchmark::kMicrosecond);
        }
        RegisterBenchmark(("decode/" + tail).c_str(), Decode, 1, spec->format, shape)
            ->Unit(benchmark::kMicrosecond);
        for (const std::size_t rows : {4, 8, 16}) {
          RegisterBenchmark(StrCat("together/", rows, "/", tail).c_str(), Decode, rows,
                            spec->format, shape)
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
    const Shape head = ShapesOf(model.config).back();
    const auto add_bounds = [&](const char* name, auto* function, bool fine) {
      RegisterBenchmark((name + size).c_str(), function, fine, head)->Unit(benchmark::kMicrosecond);
    };
    add_bounds("bounds/1/units/", &Bounds<1>, false);
    add_bounds("bounds/1/middle/", &Bounds<1>, true);
    add_bounds("bounds/8/", &Bounds<8>, true);
  }
  RegisterBenchmark("decode/Q4_0/1B/gate_up/fixed", DecodeFixed)->Unit(benchmark::kMicrosecond);
}

}  // namespace lapidary::bench
