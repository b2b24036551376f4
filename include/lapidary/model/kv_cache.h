// The keys and values of one session.
//
// Local layers see a window only: their pages form a ring that is as long as the window and the
// largest chunk together, so that a chunk never overwrites keys which its own earlier rows still
// need. Global layers keep every position. Pages are allocated when a position in them is first
// needed, and shared by copies of a cache until one of them writes.
#ifndef LAPIDARY_MODEL_KV_CACHE_H_
#define LAPIDARY_MODEL_KV_CACHE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/kernels/kv_layout.h"

namespace lapidary {

// Bytes that the cache of one session takes, known before any is allocated.
struct KvPlan {
  std::size_t page_bytes = 0;    // of one layer: keys and values of all heads
  std::size_t local_pages = 0;   // of one local layer
  std::size_t global_pages = 0;  // of one global layer
  std::size_t bytes = 0;         // of all layers, with `context` positions filled
};

// `chunk` is the largest number of positions that one step appends.
inline KvPlan PlanKv(const Config& config, std::size_t context, std::size_t chunk) {
  constexpr std::size_t kValueBytes = 2;  // bf16
  KvPlan plan;
  plan.page_bytes = 2 * kPageKeys * static_cast<std::size_t>(config.kv_width()) * kValueBytes;
  plan.global_pages = (context + kPageKeys - 1) / kPageKeys;
  // The rows of a chunk see window + chunk - 1 positions, which may begin anywhere in a page.
  const std::size_t span = static_cast<std::size_t>(config.window) + chunk - 1;
  plan.local_pages = std::min((span + kPageKeys - 2) / kPageKeys + 1, plan.global_pages);
  plan.bytes =
      plan.page_bytes *
      (plan.local_pages * static_cast<std::size_t>(CountLayers(config, LayerKind::kLocal)) +
       plan.global_pages * static_cast<std::size_t>(CountLayers(config, LayerKind::kGlobal)));
  return plan;
}

// A copy shares the pages. Two copies may be used by different threads, as long as Reserve, steps
// and whatever else reads pages happen under one lock.
class KvCache {
 public:
  KvCache(const Config& config, std::size_t context, std::size_t chunk)
      : plan_(PlanKv(config, context, chunk)),
        window_(static_cast<std::size_t>(config.window)),
        head_elements_(PageElements(static_cast<std::size_t>(config.head_dim))) {
    layers_.resize(static_cast<std::size_t>(config.layers));
    for (std::int32_t i = 0; i < config.layers; ++i) {
      const bool local = KindOfLayer(config, i) == LayerKind::kLocal;
      layers_[static_cast<std::size_t>(i)].resize(local ? plan_.local_pages : plan_.global_pages);
    }
  }

  // Makes positions begin .. end - 1 ready to be written: gives them memory that belongs to this
  // cache alone. Position `end - 1` must be within the context, and whatever the rows at `begin`
  // and behind it see must have been written. After kOutOfMemory the cache holds what it held.
  Status Reserve(std::size_t begin, std::size_t end) {
    if (begin >= end) return {};
    for (std::vector<Page>& layer : layers_) {
      for (std::size_t page = begin / kPageKeys; page * kPageKeys < end; ++page) {
        if (Status status = Own(layer[page % layer.size()]); !status) return status;
      }
    }
    const std::size_t pages = PagesBelow(end);
    oldest_page_ = std::max(oldest_page_, pages - std::min(pages, plan_.local_pages));
    return {};
  }

  // The page that holds positions 256 * page ... of a head in a layer, [kPageKeys * head_dim] bf16.
  std::uint16_t* Keys(std::size_t layer, std::size_t kv_head, std::size_t page) {
    return reinterpret_cast<std::uint16_t*>(PageBytes(layer, page)) + 2 * kv_head * head_elements_;
  }
  std::uint16_t* Values(std::size_t layer, std::size_t kv_head, std::size_t page) {
    return Keys(layer, kv_head, page) + head_elements_;
  }

  // All of a page: plan().page_bytes.
  std::uint8_t* PageBytes(std::size_t layer, std::size_t page) {
    const std::vector<Page>& pages = layers_[layer];
    return pages[page % pages.size()].get();
  }
  const std::uint8_t* PageBytes(std::size_t layer, std::size_t page) const {
    return const_cast<KvCache*>(this)->PageBytes(layer, page);
  }

  // The first page that the rings of the local layers still hold; those of the global layers hold
  // page 0 and all that follow.
  std::size_t oldest_page() const { return oldest_page_; }

  // The first page that the row at `position` sees in a local layer.
  std::size_t FirstPageSeen(std::size_t position) const {
    return (position - std::min(position, window_ - 1)) / kPageKeys;
  }
  static std::size_t PagesBelow(std::size_t end) { return (end + kPageKeys - 1) / kPageKeys; }

  // Whether the rings still hold what the token at `position` sees.
  bool CanRewindTo(std::size_t position) const { return FirstPageSeen(position) >= oldest_page_; }

  // After this nothing is held, so that rows may be written from position 0 on.
  void Clear() { oldest_page_ = 0; }
  // For a cache whose pages were filled from elsewhere: the rings hold nothing in front of `page`.
  void SetOldestPage(std::size_t page) { oldest_page_ = page; }

  const KvPlan& plan() const { return plan_; }

 private:
  using Page = std::shared_ptr<std::uint8_t>;  // keys and values of all heads; null if never needed

  // Makes a page this cache's own. Masked keys still enter products, with weight 0: fresh memory
  // must not be NaN.
  Status Own(Page& page) const {
    if (page != nullptr && page.use_count() == 1) return {};
    Result<AlignedBuffer> memory = AlignedBuffer::Allocate(plan_.page_bytes, "keys and values");
    if (!memory) return memory.error();
    const auto owner = std::make_shared<AlignedBuffer>(*std::move(memory));
    if (page == nullptr) {
      std::memset(owner->data(), 0, owner->size());
    } else {
      std::memcpy(owner->data(), page.get(), owner->size());
    }
    page = Page(owner, owner->data());
    return {};
  }

  KvPlan plan_;
  std::size_t window_;
  std::size_t head_elements_;
  std::size_t oldest_page_ = 0;
  std::vector<std::vector<Page>> layers_;  // [layers][pages]
};

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_KV_CACHE_H_
