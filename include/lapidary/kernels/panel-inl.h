// Reading packed panels (weights/quant.h) into vectors.
#if defined(LAPIDARY_KERNELS_PANEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_PANEL_INL_H_
#undef LAPIDARY_KERNELS_PANEL_INL_H_
#else
#define LAPIDARY_KERNELS_PANEL_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lapidary/kernels/simd-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

inline constexpr size_t kPanelVectors = kPanelRows / kLanes;  // vectors that hold one value per row
inline constexpr size_t kSlabQuads = kSlabInputs / 4;

// Bits of a line of 64 bytes, moved from bit `from` of every byte to bit `to`. There are no shifts
// of bytes: words are shifted, and what crossed over is masked off.
HWY_INLINE VU8 MoveBits(const uint8_t* HWY_RESTRICT line, int from, int to, uint8_t mask) {
  const DU8 d;
  const DU16 d16;
  auto words = hn::BitCast(d16, hn::LoadU(d, line));
  if (from < to) words = hn::ShiftLeftSame(words, to - from);
  if (from > to) words = hn::ShiftRightSame(words, from - to);
  return hn::And(hn::BitCast(d, words), hn::Set(d, mask));
}

// Codes of quad q (0..7) of a slab as bytes: rows v * kLanes and following, four inputs of each.
// q is a constant once the caller's loop is unrolled, and the shifts become immediate ones. `low`
// is the slab of low bits, for formats in two planes.
template <Format kFormat>
HWY_INLINE VU8 LoadCodes(const uint8_t* HWY_RESTRICT slab, const uint8_t* HWY_RESTRICT low, int q,
                         size_t v) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  const DU8 d;
  slab += v * kVectorBytes;
  if constexpr (kSpec.low_bits != 0) {
    static_assert(kSpec.bits == 8 && kSpec.low_bits == 4);
    const int from = q < 4 ? 0 : 4;
    return hn::Or(MoveBits(slab + (q % 4) * kQuadBytes, from, 4, 0xF0),
                  MoveBits(low + v * kVectorBytes + (q % 4) * kQuadBytes, from, 0, 0x0F));
  } else if constexpr (kSpec.bits == 8) {
    return hn::LoadU(d, slab + q * kQuadBytes);
  } else if constexpr (kSpec.bits < 4) {
    static_assert(kSpec.bits == 2 || kSpec.bits == 3);
    const VU8 code = MoveBits(slab + (q / 4) * kQuadBytes, q % 4 * 2, 0, 0x03);
    if constexpr (kSpec.bits == 2) return code;
    return hn::Or(code, MoveBits(slab + 2 * kQuadBytes, q, 2, 0x04));
  } else {
    static_assert(kSpec.bits <= 6);
    const VU8 code = MoveBits(slab + (q % 4) * kQuadBytes, q < 4 ? 0 : 4, 0, 0x0F);
    const uint8_t* plane = slab + 4 * kQuadBytes;
    if constexpr (kSpec.bits == 5) return hn::Or(code, MoveBits(plane, q, 4, 0x10));
    if constexpr (kSpec.bits == 6) {
      return hn::Or(code, MoveBits(plane + (q / 4) * kQuadBytes, q % 4 * 2, 4, 0x30));
    }
    if constexpr (kSpec.has_codebook)
      return hn::TableLookupBytes(hn::LoadDup128(d, kCodebook), code);
    return code;
  }
}

// f16 values of rows v * kLanes and following.
HWY_INLINE VF LoadHalves(const uint8_t* HWY_RESTRICT halves, size_t v) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(DF(),
                       hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(halves) + v * kLanes));
}

// Scales of group g of a unit.
template <Format kFormat>
HWY_INLINE VF LoadScales(const uint8_t* HWY_RESTRICT unit, size_t g, size_t v) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  if constexpr (kSpec.scale == ScaleKind::kF16) {
    return LoadHalves(unit + g * kPanelRows * 2, v);
  } else {
    using Factor = std::conditional_t<kSpec.scale == ScaleKind::kF16TimesI8, int8_t, uint8_t>;
    const hn::Rebind<Factor, DF> d8;
    const auto* scales = reinterpret_cast<const Factor*>(unit + kSpec.scales_offset());
    VI32 factor = hn::PromoteTo(DI32(), hn::LoadU(d8, scales + g * kPanelRows + v * kLanes));
    if constexpr (kSpec.scale == ScaleKind::kF16TimesHalves) {
      factor = hn::And(factor, hn::Set(DI32(), 15));
    }
    return hn::Mul(LoadHalves(unit, v), hn::ConvertTo(DF(), factor));
  }
}

// Minima of group g of a unit; only for formats that have them.
template <Format kFormat>
HWY_INLINE VF LoadMins(const uint8_t* HWY_RESTRICT unit, size_t g, size_t v) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  static_assert(kSpec.has_min);
  const uint8_t* mins = unit + kSpec.mins_offset();
  if constexpr (kSpec.scale == ScaleKind::kF16) {
    return LoadHalves(mins + g * kPanelRows * 2, v);
  } else {
    const hn::Rebind<uint8_t, DF> d8;
    VI32 factor = hn::PromoteTo(DI32(), hn::LoadU(d8, mins + g * kPanelRows + v * kLanes));
    if constexpr (kSpec.scale == ScaleKind::kF16TimesHalves) factor = hn::ShiftRight<4>(factor);
    return hn::Mul(LoadHalves(unit + kPanelRows * 2, v), hn::ConvertTo(DF(), factor));
  }
}

// Two consecutive inputs of float weights: `pair` points at their first row wanted.
struct FloatPair {
  VF even, odd;
};
template <Format kFormat>
HWY_INLINE FloatPair LoadPair(const uint8_t* HWY_RESTRICT pair) {
  const DF d;
  if constexpr (kFormat == Format::kF32) {
    const auto* p = reinterpret_cast<const float*>(pair);
    return {hn::LoadU(d, p), hn::LoadU(d, p + kPanelRows)};
  } else if constexpr (kFormat == Format::kBF16) {
    const DU32 du;
    const auto both = hn::LoadU(du, reinterpret_cast<const uint32_t*>(pair));
    return {hn::BitCast(d, hn::ShiftLeft<16>(both)),
            hn::BitCast(d, hn::And(both, hn::Set(du, 0xFFFF0000u)))};
  } else {
    static_assert(kFormat == Format::kF16);
    const hn::Repartition<hwy::float16_t, DF> dh;
    const auto both = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(pair));
    return {hn::PromoteEvenTo(d, both), hn::PromoteOddTo(d, both)};
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
