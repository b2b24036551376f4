// Whether a sanitizer watches: it needs more memory, and ends the program where the system would
// refuse an allocation.
#ifndef LAPIDARY_TESTS_SUPPORT_SANITIZER_H_
#define LAPIDARY_TESTS_SUPPORT_SANITIZER_H_

namespace lapidary::testing {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif
#else
inline constexpr bool kAddressSanitizer = false;
#endif

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#else
inline constexpr bool kThreadSanitizer = false;
#endif

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_SANITIZER_H_
