// The two precisions of the quantised matmuls.
#ifndef LAPIDARY_CONFIG_PRECISION_H_
#define LAPIDARY_CONFIG_PRECISION_H_

namespace lapidary {

// How activations meet quantised weights where a step has more than four tokens (with AMX 16), of a
// prompt or of sessions that decode together. Smaller steps and the output head wait for memory,
// not for arithmetic: they use 16 bits in either precision, and so do steps with guesses.
enum class Precision {
  kFast,   // 8-bit integers, one scale per 32
  kExact,  // 16-bit integers, one scale per 32
};

}  // namespace lapidary

#endif  // LAPIDARY_CONFIG_PRECISION_H_
