// How a model is opened.
#ifndef LAPIDARY_MODEL_OPTIONS_H_
#define LAPIDARY_MODEL_OPTIONS_H_

#include <cstddef>

#include "lapidary/config/precision.h"
#include "lapidary/kernels/kv_layout.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary {

struct ModelOptions {
  std::size_t threads = 0;                  // 0: DefaultThreads()
  Precision precision = Precision::kExact;  // of prompts and of many sessions
  KvFormat kv = KvFormat::kBF16;            // how sessions keep keys and values
  std::size_t chunk = 512;                  // tokens of a step of prefill; sizes the workspace
  LoadOptions load = {};
};

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_OPTIONS_H_
