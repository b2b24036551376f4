// The version of Lapidary. This is its only place: CMake reads it from here.
#ifndef LAPIDARY_VERSION_H_
#define LAPIDARY_VERSION_H_

#define LAPIDARY_VERSION_MAJOR 0
#define LAPIDARY_VERSION_MINOR 1
#define LAPIDARY_VERSION_PATCH 0

namespace lapidary {

// Semantic versioning; before 1.0 a new minor version may change the interface.
struct Version {
  int major_version = LAPIDARY_VERSION_MAJOR;
  int minor_version = LAPIDARY_VERSION_MINOR;
  int patch_version = LAPIDARY_VERSION_PATCH;
};

inline constexpr Version kVersion;

}  // namespace lapidary

#endif  // LAPIDARY_VERSION_H_
