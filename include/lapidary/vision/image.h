// Image files to pictures: JPEG, PNG and BMP, decoded by stb_image.
//
// The umbrella lapidary.h leaves this header out: it compiles a decoder (about a second), which a
// program that only writes text has no use for. All of stb_image is private to the translation unit
// that includes this header: it lies in a namespace of its own and has internal linkage, as do the
// functions below that call it. So any number of translation units may include it, and a program
// may have a stb_image of its own (its implementation in another translation unit: stb's macros
// allow only one in each).
#ifndef LAPIDARY_VISION_IMAGE_H_
#define LAPIDARY_VISION_IMAGE_H_

#ifdef STBI_INCLUDE_STB_IMAGE_H
#error "include lapidary/vision/image.h before stb_image.h"
#endif

// What stb_image includes, so that inside the namespace it finds all of it included already.
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "lapidary/base/file.h"
#include "lapidary/base/result.h"
#include "lapidary/vision/image_header.h"
#include "lapidary/vision/picture.h"

namespace lapidary::internal {

// The most bytes that the decoder may take at once, which DecodePicture sets. The decoder unpacks
// all data of a PNG file before it looks how many bytes the pixels need: a file of 1 x 1 pixels and
// a megabyte could ask for a gigabyte.
[[maybe_unused]] static thread_local std::size_t stb_most_bytes = 0;

[[maybe_unused]] static void* StbAllocate(std::size_t bytes) {
  return bytes <= stb_most_bytes ? malloc(bytes) : nullptr;
}
[[maybe_unused]] static void* StbReallocate(void* memory, std::size_t bytes) {
  return bytes <= stb_most_bytes ? realloc(memory, bytes) : nullptr;
}

}  // namespace lapidary::internal

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_MALLOC(bytes) StbAllocate(bytes)
#define STBI_REALLOC(memory, bytes) StbReallocate(memory, bytes)
#define STBI_FREE(memory) free(memory)
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_ASSERT(x) static_cast<void>(0)
namespace lapidary::internal::stb {
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#else
#include <stb_image.h>
#endif
}  // namespace lapidary::internal::stb
// A program may still include stb_image.h for its own declarations.
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STBI_INCLUDE_STB_IMAGE_H
#undef STBIDEF
#undef STBI_MALLOC
#undef STBI_REALLOC
#undef STBI_FREE
#undef STBI_ONLY_JPEG
#undef STBI_ONLY_PNG
#undef STBI_ONLY_BMP
#undef STBI_NO_STDIO
#undef STBI_NO_LINEAR
#undef STBI_ASSERT
#undef STBI_NO_GIF
#undef STBI_NO_HDR
#undef STBI_NO_PIC
#undef STBI_NO_PNM
#undef STBI_NO_PSD
#undef STBI_NO_TGA

namespace lapidary {

// The picture in the bytes of an image file, upright, as Pillow's exif_transpose and convert("RGB")
// would give it: grey becomes red = green = blue, transparency is dropped, of 16 bits the upper 8
// count. (Except for 16-bit grey, where Pillow 13 takes all values above 255 for 255; models are
// fed through Pillow, so this function does the same.) Colour profiles and gamma are ignored there
// and here.
//
// Errors: those of InspectImage and Picture::CheckSize, before any pixel is decoded; kCorrupt if
// the decoder finds the data wrong; kOutOfMemory.
[[maybe_unused]] static Result<Picture> DecodePicture(std::span<const std::uint8_t> bytes) {
  namespace stb = internal::stb;
  const Result<ImageHeader> header = InspectImage(bytes);
  if (!header) return header.error();
  const char* const kind = ImageKindName(header->kind);
  const auto wrong = [&] {
    const char* reason = stb::stbi_failure_reason();
    return MakeError(ErrorCode::kCorrupt, "cannot decode this ", kind,
                     " picture: ", reason == nullptr ? "unknown reason" : reason);
  };
  if (Status status = Picture::CheckSize(header->width, header->height); !status) {
    return status.error();
  }
  const auto w = static_cast<std::size_t>(header->width);
  const auto h = static_cast<std::size_t>(header->height);
  // The densest of the three is a PNG of 1 bit per pixel behind deflate's 1032 : 1.
  if (w * h / (8 * 1032) > bytes.size()) {
    return MakeError(ErrorCode::kCorrupt, "a ", kind, " picture that announces ", w, " x ", h,
                     " pixels in ", bytes.size(), " bytes");
  }
  // More bytes than an int counts would be more than the largest picture without compression.
  if (bytes.size() > std::size_t{INT_MAX}) {
    return MakeError(ErrorCode::kUnsupported, "a ", kind, " picture of ", bytes.size(), " bytes");
  }
  const auto* const data = bytes.data();
  const int size = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  // Rows of 4 channels of 16 bits and a byte, filled up to blocks, in a buffer that is doubled when
  // it is full; or all compressed data in another such buffer, or the decoder's own tables.
  internal::stb_most_bytes = 16 * (w + 64) * (h + 64) + 2 * bytes.size() + (std::size_t{1} << 16);
  if (!stb::stbi_info_from_memory(data, size, &width, &height, &channels)) {
    // Only the decoder itself gives a reason.
    free(stb::stbi_load_from_memory(data, size, &width, &height, &channels, 0));
    return wrong();
  }
  Result<Picture> picture = Picture::Create(w, h);
  if (!picture) return picture;

  const auto as_announced = [&] {  // a JPEG file may have two frame headers
    return static_cast<std::size_t>(width) == w && static_cast<std::size_t>(height) == h;
  };
  const auto decoded = [](auto* pixels) {
    return std::unique_ptr<std::remove_pointer_t<decltype(pixels)>, decltype(&free)>(pixels, free);
  };
  if (channels == 1 && stb::stbi_is_16_bit_from_memory(data, size)) {
    const auto grey =
        decoded(stb::stbi_load_16_from_memory(data, size, &width, &height, &channels, 1));
    if (grey == nullptr || !as_announced()) return wrong();
    for (std::size_t i = 0; i < w * h; ++i) {
      std::fill_n(picture->row(0) + i * Picture::kChannels, Picture::kChannels,
                  static_cast<std::uint8_t>(std::min<int>(grey.get()[i], 255)));
    }
  } else {
    const auto rgb = decoded(stb::stbi_load_from_memory(data, size, &width, &height, &channels,
                                                        static_cast<int>(Picture::kChannels)));
    if (rgb == nullptr || !as_announced()) return wrong();
    std::copy_n(rgb.get(), w * h * Picture::kChannels, picture->row(0));
  }
  return Upright(*std::move(picture), header->orientation);
}

// The picture in a file. Errors: those of InputFile::Open and DecodePicture, with the path.
[[maybe_unused]] static Result<Picture> ReadPicture(const std::filesystem::path& path) {
  const Result<InputFile> file = InputFile::Open(path);
  if (!file) return file.error();
  Result<Picture> picture = DecodePicture(file->bytes());
  if (!picture) {
    return MakeError(picture.error().code, path.string(), ": ", picture.error().message);
  }
  return picture;
}

}  // namespace lapidary

#endif  // LAPIDARY_VISION_IMAGE_H_
