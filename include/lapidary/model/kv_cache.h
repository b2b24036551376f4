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

// A copy shares the pages. Two copies may be used by different threads, as long as Reserve, steps
// and whatever else reads pages happen under one lock.
class KvCache {
 public:
  KvCache(const Config& config, std::size_t context, std::size_t chunk,
          KvFormat format = KvFormat::kBF16)
      : plan_(PlanKv(config, context, chunk, format)),
        chunk_(chunk),
        window_(static_cast<std::size_t>(config.window)),
        head_dim_(static_cast<std::size_t>(config.head_dim)) {
    layers_.resize(static_cast<std::size_t>(config.layers));
    for (std::int32_t i = 0; i < config.layers; ++i) {
      const bool local = KindOfLayer(config, i) == LayerKind::kLocal;
      layers_[static_cast<std::size_t>(i)].resize(local ? plan_.local_pages : plan_.global_pages);
    }
  }

  // Makes positions begin .. end - 1, at most chunk() of them, ready to be written: gives them
  // memory that belongs to this cache alone. Positions below `begin` must have been reserved, and
  // `end - 1` be within the context. After kOutOfMemory the cache holds what it held.
  Status Reserve(std::size_t begin, std::size_t end) {
    if (begin >= end) return {};
    for (std::vector<SharedPage>& layer : layers_) {
      for (std::size_t page = begin / kPageKeys; page * kPageKeys < end; ++page) {
        if (Status status = Own(layer[page % layer.size()]); !status) return status;
      }
    }
    written_ = std::max(written_, end);
    return {};
  }

  // The page that holds positions 256 * page ... of a head in a layer.
  KvPage Page(std::size_t layer, std::size_t kv_head, std::size_t page) {
    const std::size_t offset = 2 * kv_head * KvHalfPageBytes(plan_.format, head_dim_);
    return BindKvPage(plan_.format, head_dim_, PageBytes(layer, page) + offset);
  }

  // All heads of it, plan().page_bytes.
  std::uint8_t* PageBytes(std::size_t layer, std::size_t page) {
    const std::vector<SharedPage>& pages = layers_[layer];
    return pages[page % pages.size()].get();
  }
  const std::uint8_t* PageBytes(std::size_t layer, std::size_t page) const {
    return const_cast<KvCache*>(this)->PageBytes(layer, page);
  }

  // How many pages of a layer have memory: the first ones.
  std::size_t CountPages(std::size_t layer) const {
    return std::min((written_ + kPageKeys - 1) / kPageKeys, layers_[layer].size());
  }

  // Positions below it have been written since the cache was empty.
  std::size_t written() const { return written_; }

  // Whether a session may go on from `position`: whether the rings still hold what the next query
  // sees.
  bool CanRewindTo(std::size_t position) const {
    const std::size_t first = position - std::min(position, window_ - 1);
    return written_ == 0 || first + plan_.local_pages * kPageKeys >= written_;
  }

  // Forgets everything, so that positions may be written from 0 on. Keeps the memory.
  void Clear() { written_ = 0; }

  // The most positions that one step may append.
  std::size_t chunk() const { return chunk_; }
  const KvPlan& plan() const { return plan_; }

 private:
  using SharedPage = std::shared_ptr<std::uint8_t>;  // KvPage of each head; null if never needed

  // Makes a page this cache's own.
  Status Own(SharedPage& page) const {
    if (page != nullptr && page.use_count() == 1) return {};
    Result<AlignedBuffer> memory = AlignedBuffer::Allocate(plan_.page_bytes, "keys and values");
    if (!memory) return memory.error();
    const auto owner = std::make_shared<AlignedBuffer>(*std::move(memory));
    if (page == nullptr) {
      // Masked keys still enter products, with weight 0: they must not be NaN.
      std::memset(owner->data(), 0, owner->size());
    } else {
      std::memcpy(owner->data(), page.get(), owner->size());
    }
    page = SharedPage(owner, owner->data());
    return {};
  }

  KvPlan plan_;
  std::size_t chunk_;
  std::size_t window_;
  std::size_t head_dim_;
  std::size_t written_ = 0;
  std::vector<std::vector<SharedPage>> layers_;  // [layers][pages]
};

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_KV_CACHE_H_
