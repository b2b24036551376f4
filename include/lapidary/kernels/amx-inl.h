// AMX: eight tile registers of up to 16 rows of 64 bytes, and instructions that multiply two of
// them.
//
// A = activations, [16 rows][64 bytes]; B = weights, [16 quads of bytes or pairs of bf16][16
// outputs]; C = sums, [16 rows][16 outputs]. B has the order of a packed panel (weights/quant.h):
// 16 consecutive vectors of a panel are a tile. One core of Emerald Rapids makes 2.8 TFLOP/s of
// bf16 and 5.7 TOP/s of bytes; its vectors make 0.2 of f32, 0.1 of bf16 and 0.87 of bytes.
//
// Instructions are given to the assembler as text: AMX is no part of a Highway target, and g++'s
// own intrinsics are the same text. Compilers keep nothing in tile registers.
#if defined(LAPIDARY_KERNELS_AMX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_AMX_INL_H_
#undef LAPIDARY_KERNELS_AMX_INL_H_
#else
#define LAPIDARY_KERNELS_AMX_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lapidary/base/amx.h"
#include "lapidary/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Whether CPUs of this target may have AMX; HasAmx() says whether this one does. Kernels ask at run
// time, because Linux can refuse and virtual machines can hide it.
#if HWY_TARGET == HWY_AVX3_SPR && HWY_ARCH_X86_64 && defined(__linux__) && \
    (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
inline constexpr bool kMayHaveAmx = true;
#define LAPIDARY_AMX(...) asm volatile(__VA_ARGS__)
#else
inline constexpr bool kMayHaveAmx = false;
#define LAPIDARY_AMX(...) static_cast<void>(0)
#endif

namespace amx {

inline constexpr size_t kTileRows = 16;
inline constexpr size_t kTileBytes = 64;  // of a row
inline constexpr size_t kOutputs = 16;    // columns of C, of 32 bits

// The registers: C of row tile a and column tile b is 2 a + b.
inline constexpr int kA = 4;
inline constexpr int kB = 6;

// What LDTILECFG reads (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1,
// chapter 18).
struct TileConfig {
  alignas(64) uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// The shapes of the tiles: rows of the first and of the second row tile (1 to 16), and bytes of a
// row of A (a multiple of 4).
struct TileShape {
  size_t rows[2] = {};
  size_t bytes = 0;
  bool operator==(const TileShape&) const = default;
};

// Sets the shapes and clears the registers, in 70 ns.
HWY_NOINLINE inline void Configure(const TileShape& shape) {
  TileConfig config;
  const auto set = [&](int tile, size_t rows, size_t row_bytes) {
    config.rows[tile] = static_cast<uint8_t>(rows);
    config.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
  };
  for (int a = 0; a < 2; ++a) {
    set(2 * a, shape.rows[a], kTileBytes);
    set(2 * a + 1, shape.rows[a], kTileBytes);
    set(kA + a, shape.rows[a], shape.bytes);
    set(kB + a, shape.bytes / 4, kTileBytes);
  }
  LAPIDARY_AMX("ldtilecfg %0" : : "m"(config) : "memory");
}

// The tile registers while a kernel uses them; then they are given up, so that Linux need not save
// them and the core may sleep.
class Unit {
 public:
  Unit() = default;
  Unit(const Unit&) = delete;
  Unit& operator=(const Unit&) = delete;
  ~Unit() {
    if (shape_.bytes != 0) LAPIDARY_AMX("tilerelease" : : : "memory");
  }

  // See Configure, which takes as long as half a tile of products: does nothing if nothing changes.
  void Shape(const TileShape& shape) {
    if (shape == shape_) return;
    shape_ = shape;
    Configure(shape);
  }

 private:
  TileShape shape_;
};

template <int kTile>
HWY_INLINE void Zero() {
  LAPIDARY_AMX("tilezero %%tmm%c0" : : "i"(kTile));
}

// Rows of a tile are `stride` bytes apart.
template <int kTile>
HWY_INLINE void Load([[maybe_unused]] const void* p, [[maybe_unused]] size_t stride) {
  LAPIDARY_AMX("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(stride) : "memory");
}
// The same, of what should not stay in the first-level cache.
template <int kTile>
HWY_INLINE void LoadOnce([[maybe_unused]] const void* p, [[maybe_unused]] size_t stride) {
  LAPIDARY_AMX("tileloaddt1 (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(stride) : "memory");
}
template <int kTile>
HWY_INLINE void Store([[maybe_unused]] void* p, [[maybe_unused]] size_t stride) {
  LAPIDARY_AMX("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(p), "r"(stride) : "memory");
}

// C += A B, of signed bytes into 32-bit integers.
template <int kSum, int kLeft, int kRight>
HWY_INLINE void MultiplyBytes() {
  LAPIDARY_AMX("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
}
// C += A B, of bf16 into f32: even and odd inputs are summed apart over the depth of the tile, then
// their sum is added to C. Subnormal numbers count as zero.
template <int kSum, int kLeft, int kRight>
HWY_INLINE void MultiplyBF16() {
  LAPIDARY_AMX("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
}

}  // namespace amx

#undef LAPIDARY_AMX

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
