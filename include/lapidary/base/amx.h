// Leave to use AMX, the matrix unit of Intel's server processors from Sapphire Rapids on.
#ifndef LAPIDARY_BASE_AMX_H_
#define LAPIDARY_BASE_AMX_H_

#if defined(__linux__) && defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lapidary {

namespace internal {

// The tiles are 8 KB of state that Linux saves for a process only if it asks (since version 5.16;
// Documentation/arch/x86/xstate.rst). It may refuse: no such unit, an older kernel, a filter of
// system calls.
inline bool AskForAmx() {
#if defined(__linux__) && defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  constexpr unsigned kBF16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  constexpr unsigned kAll = kBF16 | kTile | kInt8;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kAll) != kAll) return false;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace internal

// Whether this process may use AMX tiles of bytes and bf16. The first call asks the kernel, for all
// threads and for as long as the process lives.
inline bool HasAmx() {
  static const bool has = internal::AskForAmx();
  return has;
}

}  // namespace lapidary

#endif  // LAPIDARY_BASE_AMX_H_
