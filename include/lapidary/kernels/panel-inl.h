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

// Bytes whose bit `from` becomes bit `to`. There are no shifts of bytes: words are shifted, and
// what crosses over has to be masked off.
HWY_INLINE VU8 ShiftBits(VU8 bytes, int from, int to) {
  auto words = hn::BitCast(DU16(), bytes);
  if (from < to) words = hn::ShiftLeftSame(words, to - from);
  if (from > to) words = hn::ShiftRightSame(words, from - to);
  return hn::BitCast(DU8(), words);
}

// Bits of a line of 64 bytes, moved from bit `from` of every byte to bit `to`.
HWY_INLINE VU8 MoveBits(const uint8_t* HWY_RESTRICT line, int from, int to, uint8_t mask) {
  return hn::And(ShiftBits(hn::LoadU(DU8(), line), from, to), hn::Set(DU8(), mask));
}

// The codes of 32 inputs of a panel.
struct Slab {
  const uint8_t* units;             // in a unit
  const uint8_t* middle = nullptr;  // in the planes behind the units, if the format has them
  const uint8_t* low = nullptr;
};

// Of a format with 2 bits in its units and 2 in the middle, the nibble that both are: in the high
// half of the bytes, or with kLow in the low one; the other half is to be masked off. A line of
// either plane holds four quads; the nibbles of two of them, every other one, are put together at
// once (and the compiler sees that they are the same for both).
template <bool kLow>
HWY_INLINE VU8 LoadNibbles(const Slab& slab, int q, size_t v) {
  const DU8 d;
  const size_t at = v * kVectorBytes + static_cast<size_t>(q / 4) * kQuadBytes;
  const VU8 units = hn::LoadU(d, slab.units + at);
  const VU8 middle = hn::LoadU(d, slab.middle + at);
  const bool odd = q % 2 != 0;
  const VU8 both = hn::BitwiseIfThenElse(hn::Set(d, 0xCC), odd ? units : ShiftBits(units, 0, 2),
                                         odd ? ShiftBits(middle, 2, 0) : middle);
  return ShiftBits(both, q % 4 < 2 ? 0 : 4, kLow ? 0 : 4);
}

// Codes of quad q (0..7) of a slab as bytes: rows v * kLanes and following, four inputs of each.
// q is a constant once the caller's loop is unrolled, and the shifts become immediate ones.
template <Format kFormat>
HWY_INLINE VU8 LoadCodes(const Slab& planes, int q, size_t v) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  const DU8 d;
  const uint8_t* HWY_RESTRICT slab = planes.units + v * kVectorBytes;
  if constexpr (kSpec.is_in_planes()) {
    static_assert(kSpec.bits == 8 && kSpec.middle_bits == 2 && kSpec.low_bits == 4);
    const VU8 low = hn::LoadU(d, planes.low + v * kVectorBytes + (q % 4) * kQuadBytes);
    return hn::BitwiseIfThenElse(hn::Set(d, 0xF0), LoadNibbles<false>(planes, q, v),
                                 ShiftBits(low, q < 4 ? 0 : 4, 0));
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
