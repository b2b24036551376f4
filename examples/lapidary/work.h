// How much work a step is, to judge speeds by: bytes that decode must read, products that prefill
// must form.
#ifndef LAPIDARY_EXAMPLES_WORK_H_
#define LAPIDARY_EXAMPLES_WORK_H_

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "lapidary/config/config.h"
#include "lapidary/weights/quant.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary::cli {

// What a decode step takes from the output head.
enum class HeadUse {
  kLogits,  // all of it
  kBest,    // of an embedding in planes, not much more than the units: the rest is not counted
};

// Bytes that a decode step reads, as the mean over `steps` steps of which the first appends
// position `first`: every matrix of the layers once, the embedding once (it is the output head; the
// row that it gives to the input does not count), and the keys and values that the new token sees.
// Norm gains and activations are a thousandth of that and left out.
inline double DecodeBytes(const WeightFile& file, std::size_t first, std::size_t steps,
                          HeadUse head) {
  double bytes = 0;
  for (const Section& section : file.sections()) {
    const std::string_view name = section.name;
    if (section.kind != SectionKind::kMatrix) continue;
    if (name == "embedding" && head == HeadUse::kBest) {
      const std::size_t units = SpecOf(section.format).plane_bytes(Plane::kUnits, section.cols);
      bytes += static_cast<double>(CountPanels(section.rows) * units);
    } else if (name == "embedding" || name.starts_with("layers.")) {
      bytes += static_cast<double>(section.bytes);
    }
  }
  const Config& config = file.config();
  constexpr double kValueBytes = 2;  // bf16
  const double of_one_key = 2 * kValueBytes * config.kv_width();
  const double locals = CountLayers(config, LayerKind::kLocal);
  const double globals = CountLayers(config, LayerKind::kGlobal);
  double keys = 0;
  for (std::size_t i = 0; i < steps; ++i) {
    const double visible = static_cast<double>(first + i + 1);
    keys += locals * std::min<double>(visible, config.window) + globals * visible;
  }
  return bytes + (steps == 0 ? 0 : of_one_key * keys / static_cast<double>(steps));
}

// Weights that each token of a prompt is multiplied with: the matrices of the layers, without the
// output head, which prefill needs for one row only.
inline double PrefillWeights(const WeightFile& file) {
  double weights = 0;
  for (const Section& section : file.sections()) {
    if (section.kind != SectionKind::kMatrix) continue;
    if (!std::string_view(section.name).starts_with("layers.")) continue;
    weights += static_cast<double>(section.rows) * static_cast<double>(section.cols);
  }
  return weights;
}

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_WORK_H_
