// What a generation may be told, and what it tells.
#ifndef LAPIDARY_GENERATE_OPTIONS_H_
#define LAPIDARY_GENERATE_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/generate/prompt_lookup.h"

namespace lapidary {

// Makes a token more or less likely; -infinity forbids it.
struct LogitBias {
  std::int32_t id = 0;
  float bias = 0;
};

// How the next token is chosen. The steps are applied in the order of these fields, as Hugging
// Face's generate() does. The default is greedy.
struct SamplingOptions {
  float repetition_penalty =
      1;  // logits of tokens seen before are divided (if positive) or multiplied by it
  float temperature = 0;   // 0: the most likely token, and the fields below do not matter
  std::size_t top_k = 0;   // keep the k most likely; 0: all
  float top_p = 1;         // then the fewest whose probabilities sum up to top_p
  float min_p = 0;         // then those at least min_p times as likely as the most likely
  std::uint64_t seed = 0;  // equal seeds give equal draws, on every machine
};

// Receives all tokens so far and returns at most `most` that may come next. Called with 0 when the
// prompt has been read.
using GuessCallback =
    std::function<std::vector<std::int32_t>(std::span<const std::int32_t> ids, std::size_t most)>;

struct GenerateOptions {
  std::size_t max_tokens = 256;
  SamplingOptions sampling = {};
  std::vector<LogitBias> logit_bias = {};      // added to the logits before anything else
  std::vector<std::string> stop_strings = {};  // the text ends before the first of them
  bool stop_at_end = true;  // stop at <eos> and, if the vocabulary has it, <end_of_turn>
  // Of every chosen token, how likely the model found it, and the n most likely ones; 0: neither.
  std::size_t log_probabilities = 0;
  // Guesses how the text goes on; speculation.h has another one. The text does not depend on it,
  // only the time that it takes. Null: nobody does, and every step computes one token.
  GuessCallback guess = PromptLookup();
  ProgressCallback prefill_progress = {};  // in tokens of the prompt
  // Ends the work at the next token, or the next chunk of the prompt, from any thread.
  std::stop_token cancel = {};
};

// A token and the natural logarithm of its probability, as the model gave it: before anything that
// SamplingOptions do.
struct TokenProbability {
  std::int32_t id = 0;
  float log_probability = 0;
};

// The place of one chosen token.
struct TokenChoice {
  float log_probability = 0;          // of the chosen token
  std::vector<TokenProbability> top;  // the most likely ones, the best first
};

// Receives the text as it is made, whole characters only. Returning false stops the generation.
using TextCallback = std::function<bool(std::string_view text)>;

enum class StopReason {
  kEnd,         // the model ended its text
  kStopString,  // one of GenerateOptions::stop_strings
  kMaxTokens,
  kContextFull,
  kCancelled,  // the callback returned false, or GenerateOptions::cancel was set
};

struct GenerateResult {
  std::string text;                  // everything the callback received
  std::vector<std::int32_t> ids;     // chosen tokens, the one that ended the text included
  std::vector<TokenChoice> choices;  // of each id, if GenerateOptions::log_probabilities asks
  StopReason reason = StopReason::kMaxTokens;
  std::size_t prompt_tokens = 0;  // that were computed; a Chat holds the earlier ones already
  double prefill_seconds = 0;
  double decode_seconds = 0;     // of ids.size() - 1 tokens: prefill gives the first one
  bool all_logits = false;       // whether choosing took the logits of all tokens
  std::size_t guesses = 0;       // of GenerateOptions::guess that were computed
  std::size_t guesses_true = 0;  // of these, tokens that were then chosen
};

// How GenerateBatch goes about it.
struct BatchOptions {
  GenerateOptions generate = {};
  std::size_t sessions = 8;  // at a time; each has keys and values of its own
  std::size_t context = 0;   // of each, as for Session
};

// Receives the text of a prompt once it is complete, or why there is none. Returning false cancels
// the rest.
using BatchCallback = std::function<bool(std::size_t prompt, Result<GenerateResult> result)>;

// How likely the model finds a text.
struct Likelihood {
  double total = 0;                      // the natural logarithm of its probability
  std::vector<float> log_probabilities;  // of each token; their sum is `total`
  bool is_greedy = true;                 // whether each token was the most likely one
};

// How the hidden states of a text's tokens become one.
enum class Pooling {
  kMean,  // of all tokens
  kLast,  // that of the last token, which has seen all others
};

}  // namespace lapidary

#endif  // LAPIDARY_GENERATE_OPTIONS_H_
