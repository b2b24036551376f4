// A prompt: token ids, and the pictures whose soft tokens take the place of some of them.
#ifndef LAPIDARY_TEXT_PROMPT_H_
#define LAPIDARY_TEXT_PROMPT_H_

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/vision/image_embedding.h"

namespace lapidary {

// Every part of every picture, in order, stands for a run of kImageSoftToken in the ids, as long as
// the part has soft tokens. PromptBuilder and ChatTemplate write such ids.
struct Prompt {
  std::vector<std::int32_t> ids;
  std::vector<ImageEmbedding> images;
};

// A prompt that somebody else owns: a Prompt, or ids alone.
struct PromptView {
  PromptView(const Prompt& prompt) : ids(prompt.ids), images(prompt.images) {}  // NOLINT: implicit
  template <class Ids>
  requires std::convertible_to<const Ids&, std::span<const std::int32_t>> PromptView(
      const Ids& token_ids)
      : ids(token_ids) {}  // NOLINT: implicit on purpose

  std::span<const std::int32_t> ids;
  std::span<const ImageEmbedding> images;
};

// The place of a picture, or of one of its crops, in a sequence.
struct ImageSpan {
  std::size_t begin = 0;  // of its rows
  std::size_t rows = 0;
  const float* embeddings = nullptr;  // [rows, width of the decoder]

  std::size_t end() const { return begin + rows; }
};

// Where kImageSoftToken stands in the ids, in runs of `soft_tokens`; embeddings stay null.
// kInvalidArgument for a run of another length.
inline Result<std::vector<ImageSpan>> FindImageSpans(std::span<const std::int32_t> ids,
                                                     std::size_t soft_tokens) {
  std::vector<ImageSpan> spans;
  for (auto at = ids.begin(); (at = std::find(at, ids.end(), kImageSoftToken)) != ids.end();) {
    const auto end = std::find_if(at, ids.end(), [](auto id) { return id != kImageSoftToken; });
    const auto begin = static_cast<std::size_t>(at - ids.begin());
    const auto length = static_cast<std::size_t>(end - at);
    if (soft_tokens == 0 || length % soft_tokens != 0) {
      return MakeError(ErrorCode::kInvalidArgument, "token ", begin, ": expected ", soft_tokens,
                       " soft tokens of a picture in a row, found ", length);
    }
    for (std::size_t i = 0; i < length; i += soft_tokens) spans.push_back({begin + i, soft_tokens});
    at = end;
  }
  return spans;
}

// The same with the embeddings of the prompt's pictures. Errors: those of FindImageSpans;
// kInvalidArgument if their numbers differ; kMismatch for a picture that another model encoded;
// kUnsupported for a picture in the prompt of a model without an encoder.
inline Result<std::vector<ImageSpan>> PlaceImages(const PromptView& prompt, const Config& config) {
  const auto soft_tokens = static_cast<std::size_t>(config.vision.soft_tokens);
  const auto width = static_cast<std::size_t>(config.width);
  if (!config.vision.present()) {
    if (prompt.images.empty()) return std::vector<ImageSpan>();
    return MakeError(ErrorCode::kUnsupported, "this model reads no pictures, found ",
                     prompt.images.size());
  }
  Result<std::vector<ImageSpan>> spans = FindImageSpans(prompt.ids, soft_tokens);
  if (!spans) return spans;
  std::size_t next = 0, parts = 0;
  for (const ImageEmbedding& image : prompt.images) {
    if (image.soft_tokens() != soft_tokens || image.width() != width) {
      return MakeError(ErrorCode::kMismatch, "a picture that another model encoded: expected ",
                       soft_tokens, " x ", width, " values, found ", image.soft_tokens(), " x ",
                       image.width());
    }
    parts += image.parts();
    for (std::size_t i = 0; i < image.parts() && next < spans->size(); ++i) {
      (*spans)[next++].embeddings = image.part(i).data();
    }
  }
  if (parts != spans->size()) {
    return MakeError(ErrorCode::kInvalidArgument, "the prompt has places for ", spans->size(),
                     " pictures (crops count), found ", parts);
  }
  return spans;
}

}  // namespace lapidary

#endif  // LAPIDARY_TEXT_PROMPT_H_
