// The keys and values of one session.
//
// Local layers see a window only: their pages form a ring that is as long as the window and the
// largest chunk together, so that a chunk never overwrites keys which its own earlier rows still
// need. Global layers keep every position. Pages are allocated when a position in them is first
// needed.
#ifndef LAPIDARY_MODEL_KV_CACHE_H_
#define LAPIDARY_MODEL_KV_CACHE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/kernels/kv_layout.h"

namespace lapidary {

// Bytes that the cache of one session takes, known before any is allocated.
struct KvPlan {
  KvFormat format = KvFormat::kBF16;
  std::size_t page_bytes = 0;    // of one layer: keys and values of all heads
  std::size_t local_pages = 0;   // of one local layer
  std::size_t global_pages = 0;  // of one global layer
  std::size_t bytes = 0;         // of all layers, with `context` positions filled
};

// `chunk` is the largest number of positions that one step appends.
inline KvPlan PlanKv(const Config& config, std::size_t context, std::size_t chunk,
                     KvFormat format = KvFormat::kBF16) {
  KvPlan plan;
  plan.format = format;
  plan.page_bytes = 2 * static_cast<std::size_t>(config.kv_heads) *
                    KvHalfPageBytes(format, static_cast<std::size_t>(config.head_dim));
  plan.global_pages = (context + kPageKeys - 1) / kPageKeys;
  // The rows of a chunk see window + chunk - 1 positions. Where these begin and end in the middle
  // of a page, the first and the last one share a page of the ring: their slots do not meet.
  const std::size_t span = static_cast<std::size_t>(config.window) + chunk - 1;
  plan.local_pages = std::min((span + kPageKeys - 1) / kPageKeys, plan.global_pages);
  plan.bytes =
      plan.page_bytes *
      (plan.local_pages * static_cast<std::size_t>(CountLayers(config, LayerKind::kLocal)) +
       plan.global_pages * static_cast<std::size_t>(CountLayers(config, LayerKind::kGlobal)));
  return plan;
}

class KvCache {
 public:
  KvCache(const Config& config, std::size_t context, std::size_t chunk,
          KvFormat format = KvFormat::kBF16)
      : plan_(PlanKv(config, context, chunk, format)),
        window_(static_cast<std::size_t>(config.window)),
        head_dim_(static_cast<std::size_t>(config.head_dim)) {
    layers_.resize(static_cast<std::size_t>(config.layers));
    for (std::int32_t i = 0; i < config.layers; ++i) {
      const bool local = KindOfLayer(config, i) == LayerKind::kLocal;
      layers_[static_cast<std::size_t>(i)].resize(local ? plan_.local_pages : plan_.global_pages);
    }
  }

  // Makes sure that positions below `end` have memory. Position `end - 1` must be within the
  // context.
  Status Reserve(std::size_t end) {
    if (end <= reserved_) return {};
    const std::size_t pages = (end + kPageKeys - 1) / kPageKeys;
    for (std::vector<AlignedBuffer>& layer : layers_) {
      for (std::size_t i = 0; i < std::min(pages, layer.size()); ++i) {
        if (layer[i].size() != 0) continue;
        Result<AlignedBuffer> page = AlignedBuffer::Allocate(plan_.page_bytes, "keys and values");
        if (!page) return page.error();
        // Masked keys still enter products, with weight 0: they must not be NaN.
        std::memset(page->data(), 0, page->size());
        layer[i] = *std::move(page);
      }
    }
    reserved_ = end;
    return {};
  }

  // The page that holds positions 256 * page ... of a head in a layer.
  KvPage Page(std::size_t layer, std::size_t kv_head, std::size_t page) {
    std::vector<AlignedBuffer>& pages = layers_[layer];
    return BindKvPage(
        plan_.format, head_dim_,
        pages[page % pages.size()].data() + 2 * kv_head * KvHalfPageBytes(plan_.format, head_dim_));
  }

  // Whether a session that has written positions below `written` may go on from `position`: whether
  // the rings still hold what the next query sees.
  bool CanRewindTo(std::size_t position, std::size_t written) const {
    if (written == 0) return true;
    const std::size_t first = position - std::min(position, window_ - 1);
    return first + plan_.local_pages * kPageKeys >= written;
  }

  const KvPlan& plan() const { return plan_; }

 private:
  KvPlan plan_;
  std::size_t window_;
  std::size_t head_dim_;
  std::size_t reserved_ = 0;
  std::vector<std::vector<AlignedBuffer>> layers_;  // [layers][pages]: KvPage of each kv head
};

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_KV_CACHE_H_
