// The two precisions of the quantised matmuls.
#ifndef LAPIDARY_CONFIG_PRECISION_H_
#define LAPIDARY_CONFIG_PRECISION_H_

namespace lapidary {

// How activations meet quantised weights in prefill. Decode and the output head wait for memory,
// not for arithmetic, and use kExact's arithmetic always.
enum class Precision {
  kFast,   // 8-bit integers, one scale per 32
  kExact,  // 16-bit integers, one scale per 32
};

}  // namespace lapidary

#endif  // LAPIDARY_CONFIG_PRECISION_H_
