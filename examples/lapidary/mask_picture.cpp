#include "mask_picture.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "lapidary/vision/picture.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#if __has_include(<stb/stb_image_write.h>)
#include <stb/stb_image_write.h>
#else
#include <stb_image_write.h>
#endif

namespace lapidary::cli {

namespace {

using Colour = std::array<std::uint8_t, 3>;

constexpr Colour kPaper = {255, 255, 255}, kInk = {40, 40, 48}, kBlank = {240, 240, 243},
                 kTint = {255, 236, 205}, kBehind = {52, 101, 164}, kBehindTint = {32, 120, 120},
                 kAhead = {224, 122, 32}, kTooFar = {205, 214, 228};

// Letters of 3 x 5 dots. A digit is a row of three dots, from top to bottom.
struct Glyph {
  char letter;
  const char* rows;
};
constexpr Glyph kFont[] = {
    {'A', "25755"}, {'B', "65656"}, {'C', "34443"}, {'D', "65556"}, {'E', "74647"}, {'F', "74644"},
    {'G', "34553"}, {'H', "55755"}, {'I', "72227"}, {'J', "11152"}, {'K', "55655"}, {'L', "44447"},
    {'M', "57755"}, {'N', "65555"}, {'O', "25552"}, {'P', "65644"}, {'Q', "25573"}, {'R', "65655"},
    {'S', "34216"}, {'T', "72222"}, {'U', "55557"}, {'V', "55552"}, {'W', "55775"}, {'X', "55255"},
    {'Y', "55222"}, {'Z', "71247"}, {'0', "75557"}, {'1', "26227"}, {'2', "61247"}, {'3', "61216"},
    {'4', "55711"}, {'5', "74616"}, {'6', "34657"}, {'7', "71222"}, {'8', "75757"}, {'9', "75316"},
    {'-', "00700"}, {',', "00024"}, {'(', "24442"}, {')', "21112"}};

constexpr std::size_t kGlyphWidth = 4, kGlyphHeight = 6;  // with the gap

class Canvas {
 public:
  explicit Canvas(Picture picture) : picture_(std::move(picture)) {
    Fill({0, 0, picture_.width(), picture_.height()}, kPaper);
  }

  void Fill(const Box& box, const Colour& colour) {
    for (std::size_t y = box.y; y < std::min(box.y + box.height, picture_.height()); ++y) {
      for (std::size_t x = box.x; x < std::min(box.x + box.width, picture_.width()); ++x) {
        std::copy(colour.begin(), colour.end(), picture_.row(y) + x * Picture::kChannels);
      }
    }
  }

  // `dot` pixels for each dot of the letters; letters that the font lacks stay blank.
  void Write(std::string_view text, std::size_t x, std::size_t y, std::size_t dot) {
    for (const char letter : text) {
      const char upper = letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 32) : letter;
      for (const Glyph& glyph : kFont) {
        if (glyph.letter != upper) continue;
        for (std::size_t row = 0; row < 5; ++row) {
          for (std::size_t column = 0; column < 3; ++column) {
            if ((glyph.rows[row] - '0') >> (2 - column) & 1) {
              Fill({x + column * dot, y + row * dot, dot, dot}, kInk);
            }
          }
        }
      }
      x += kGlyphWidth * dot;
    }
  }

  std::vector<std::uint8_t> Png() const {
    std::vector<std::uint8_t> bytes;
    const auto append = [](void* context, void* data, int size) {
      auto* out = static_cast<std::vector<std::uint8_t>*>(context);
      const auto* from = static_cast<const std::uint8_t*>(data);
      out->insert(out->end(), from, from + size);
    };
    stbi_write_png_to_func(append, &bytes, static_cast<int>(picture_.width()),
                           static_cast<int>(picture_.height()), Picture::kChannels, picture_.row(0),
                           static_cast<int>(picture_.row_bytes()));
    return bytes;
  }

 private:
  Picture picture_;
};

Colour CellColour(Sight sight, bool tinted) {
  switch (sight) {
    case Sight::kBehind:
      return tinted ? kBehindTint : kBehind;
    case Sight::kAhead:
      return kAhead;
    case Sight::kTooFar:
      return kTooFar;
    case Sight::kNone:
      break;
  }
  return tinted ? kTint : kBlank;
}

}  // namespace

Result<std::vector<std::uint8_t>> DrawMask(const std::vector<MaskPanel>& panels,
                                           const std::vector<bool>& pictured,
                                           const std::string& letters) {
  const std::size_t count = pictured.size();
  const std::size_t cell = std::clamp<std::size_t>(480 / count, 1, 24);
  const std::size_t gap = cell > 4 ? 1 : 0;
  const std::size_t dot = cell >= 18 ? 2 : 1;  // of the letters beside cells
  const std::size_t side = count * cell;
  constexpr std::size_t kTitle = 2 * kGlyphHeight + 10, kMargin = 24;
  const std::size_t panel_width = kMargin + side, panel_height = kTitle + kMargin + side;
  const std::size_t rows = (panels.size() + 1) / 2;
  Result<Picture> picture =
      Picture::Create(2 * panel_width + kMargin, rows * panel_height + kMargin);
  if (!picture) return picture.error();
  Canvas canvas(*std::move(picture));
  for (std::size_t i = 0; i < panels.size(); ++i) {
    const std::size_t x0 = i % 2 * panel_width + kMargin;
    const std::size_t y0 = i / 2 * panel_height + kTitle + kMargin;
    canvas.Write(panels[i].title, x0, y0 - kTitle - 4, 2);
    for (std::size_t q = 0; q < count; ++q) {
      if (cell >= 7) {
        const std::string_view letter = std::string_view(letters).substr(q, 1);
        const std::size_t middle = (cell - 5 * dot) / 2;
        canvas.Write(letter, x0 - kGlyphWidth * dot - 2, y0 + q * cell + middle, dot);
        canvas.Write(letter, x0 + q * cell + (cell - 3 * dot) / 2, y0 - kGlyphHeight * dot - 1,
                     dot);
      }
      for (std::size_t k = 0; k < count; ++k) {
        canvas.Fill({x0 + k * cell, y0 + q * cell, cell - gap, cell - gap},
                    CellColour(panels[i].sight(q, k), pictured[q] && pictured[k]));
      }
    }
  }
  return canvas.Png();
}

}  // namespace lapidary::cli
