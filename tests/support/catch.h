// Catch2 of version 2 (Debian 12) or 3 (Debian 13): the part that both have, TEST_CASE, SECTION,
// REQUIRE, CHECK, INFO, CAPTURE.
#ifndef LAPIDARY_TESTS_SUPPORT_CATCH_H_
#define LAPIDARY_TESTS_SUPPORT_CATCH_H_

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_test_macros.hpp>
#include <catch2/catch_tostring.hpp>
#else
#include <catch2/catch.hpp>
#endif

#endif  // LAPIDARY_TESTS_SUPPORT_CATCH_H_
