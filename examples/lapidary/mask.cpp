// lapidary mask: who sees whom in a prompt, as text or as a picture.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "images.h"
#include "json_out.h"
#include "lapidary/base/file.h"
#include "lapidary/config/models.h"
#include "lapidary/kernels/visible_keys.h"
#include "lapidary/text/chat_template.h"
#include "lapidary/text/prompt.h"
#include "lapidary/vision/pan_and_scan.h"
#include "mask_picture.h"
#include "terminal.h"
#include "weight_header.h"

namespace lapidary::cli {
namespace {

struct MaskFlags {
  std::string model;
  std::optional<std::string> prompt;  // one of these three
  std::optional<std::string> ids_file;
  std::optional<std::string> layout;
  ImageFlags images;
  std::string layer;
  std::size_t window = 0;
  std::string output;
  bool json = false;
};

// A sequence as attention sees it: one letter for each token, T text, B and E the markers around
// a picture, I a soft token; and for each token where its picture ends (see KeysOfQuery).
struct Sequence {
  std::string letters;
  std::vector<std::size_t> block_ends;
  std::size_t window = 0;  // of local layers

  std::size_t size() const { return letters.size(); }
  bool pictured(std::size_t i) const { return letters[i] == 'I'; }
};

Result<Sequence> MakeSequence(const std::vector<std::int32_t>& ids, std::size_t soft_tokens,
                              std::size_t window) {
  const Result<std::vector<ImageSpan>> spans = FindImageSpans(ids, soft_tokens);
  if (!spans) return spans.error();
  Sequence sequence;
  sequence.window = window;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    sequence.block_ends.push_back(i);
    sequence.letters += ids[i] == kStartOfImage     ? 'B'
                        : ids[i] == kEndOfImage     ? 'E'
                        : ids[i] == kImageSoftToken ? 'I'
                                                    : 'T';
  }
  for (const ImageSpan& span : *spans) {
    for (std::size_t i = span.begin; i < span.end(); ++i) sequence.block_ends[i] = span.end() - 1;
  }
  return sequence;
}

// A layout in letters, each run of I one picture.
Result<Sequence> SequenceOf(const std::string& layout, std::size_t window) {
  Sequence sequence = {.letters = layout, .block_ends = {}, .window = window};
  for (std::size_t i = 0; i < layout.size(); ++i) {
    if (std::string("TBIE").find(layout[i]) == std::string::npos) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "--layout: expected the letters T, B, I and E, found \"", layout[i],
                       "\" as letter ", i + 1);
    }
    std::size_t end = i;
    while (layout[i] == 'I' && end + 1 < layout.size() && layout[end + 1] == 'I') ++end;
    sequence.block_ends.push_back(end);
  }
  if (layout.empty()) return MakeError(ErrorCode::kInvalidArgument, "--layout is empty");
  return sequence;
}

Result<std::vector<std::int32_t>> PromptIds(const MaskFlags& flags, const WeightHeader& header,
                                            std::size_t soft_tokens) {
  const Result<Tokenizer> tokenizer = ReadTokenizer(header, flags.model);
  if (!tokenizer) return tokenizer.error();
  const Result<std::vector<Picture>> pictures = ReadPictures(flags.images);
  if (!pictures) return pictures.error();
  PromptBuilder builder(*tokenizer, PromptBuilder::Text::kWithControl);
  builder.AddId(kBos);
  for (const Picture& picture : *pictures) {
    const std::size_t crops =
        flags.images.pan_and_scan ? PanAndScan(picture.width(), picture.height()).size() : 0;
    builder.AddImage(soft_tokens, 1 + crops);
  }
  return builder.AddText(*flags.prompt).Take();
}

Result<Sequence> ReadSequence(const MaskFlags& flags) {
  Config config = Gemma3_4B::kConfig;
  std::optional<WeightHeader> header;
  if (!flags.model.empty()) {
    Result<WeightHeader> read = WeightHeader::Read(flags.model);
    if (!read) return read.error();
    header = *std::move(read);
    config = header->config();
  }
  const auto window = flags.window != 0 ? flags.window : static_cast<std::size_t>(config.window);
  if (flags.layout) return SequenceOf(*flags.layout, window);
  if (flags.prompt && !header) {
    return MakeError(ErrorCode::kInvalidArgument, "a text needs a vocabulary: -m FILE");
  }
  const std::size_t soft_tokens = static_cast<std::size_t>(
      config.vision.present() ? config.vision.soft_tokens : kSigLip.soft_tokens);
  const Result<std::vector<std::int32_t>> ids =
      flags.ids_file ? ReadIds(*flags.ids_file) : PromptIds(flags, *header, soft_tokens);
  if (!ids) return ids.error();
  return MakeSequence(*ids, soft_tokens, window);
}

// ---- Patterns ----

Sight SightOf(const VisibleKeys& keys, const VisibleKeys& without_window, std::size_t query,
              std::size_t key) {
  if (keys.Contains(key)) return key > query ? Sight::kAhead : Sight::kBehind;
  return without_window.Contains(key) ? Sight::kTooFar : Sight::kNone;
}

// Gemma's pattern: the decoder's own function, KeysOfQuery. window 0: a global layer.
MaskPanel GemmaPanel(const Sequence& s, std::size_t window, std::string title) {
  return {std::move(title), [&s, window](std::size_t q, std::size_t k) {
            return SightOf(KeysOfQuery(q, s.block_ends[q], window),
                           KeysOfQuery(q, s.block_ends[q], 0), q, k);
          }};
}

std::vector<MaskPanel> AllPanels(const Sequence& s) {
  // A prefix LM sees all of the prompt, here up to the end of the last picture, in both directions.
  const std::size_t prefix = s.letters.find_last_of('I');
  return {GemmaPanel(s, 0, "Gemma 3, global layers"),
          GemmaPanel(s, s.window, StrCat("Gemma 3, local layers, window ", s.window)),
          {"causal only",
           [](std::size_t q, std::size_t k) { return SightOf(KeysOfQuery(q, q, 0), {}, q, k); }},
          {"prefix LM", [prefix](std::size_t q, std::size_t k) {
             const std::size_t end = prefix == std::string::npos ? q : std::max(q, prefix);
             return SightOf(KeysOfQuery(q, end, 0), {}, q, k);
           }}};
}

// ---- Text ----

// The positions that are shown: runs of equal letters are cut to their first three and last two.
std::vector<std::size_t> Shown(const Sequence& s) {
  constexpr std::size_t kFront = 3, kBack = 2;
  std::vector<std::size_t> shown;
  for (std::size_t begin = 0; begin < s.size();) {
    const std::size_t end =
        std::min(s.letters.find_first_not_of(s.letters[begin], begin), s.size());
    for (std::size_t i = begin; i < end; ++i) {
      if (i < begin + kFront || i + kBack >= end) shown.push_back(i);
    }
    begin = end;
  }
  return shown;
}

std::string PanelText(const Sequence& s, const MaskPanel& panel, bool colours) {
  const std::vector<std::size_t> shown = Shown(s);
  std::string text = panel.title + "\n        ";
  for (const std::size_t k : shown) text += StrCat(' ', s.letters[k]);
  text += '\n';
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const std::size_t q = shown[i];
    if (i > 0 && q != shown[i - 1] + 1) text += "     ...\n";
    const std::string number = std::to_string(q);
    text +=
        std::string(6 - std::min<std::size_t>(6, number.size()), ' ') + number + ' ' + s.letters[q];
    for (const std::size_t k : shown) {
      const Sight sight = panel.sight(q, k);
      const bool tinted = s.pictured(q) && s.pictured(k);
      const char* const mark = sight == Sight::kBehind   ? "#"
                               : sight == Sight::kAhead  ? "+"
                               : sight == Sight::kTooFar ? "-"
                                                         : ".";
      const char* const colour = sight == Sight::kAhead    ? "\x1b[97;48;5;172m"
                                 : sight == Sight::kTooFar ? "\x1b[90m"
                                 : sight == Sight::kNone   ? "\x1b[90m"
                                 : tinted                  ? "\x1b[97;48;5;30m"
                                                           : "\x1b[97;48;5;25m";
      text += colours ? StrCat(colour, ' ', mark, "\x1b[0m") : StrCat(' ', mark);
    }
    text += '\n';
  }
  return text;
}

std::size_t CountSeen(const Sequence& s, const MaskPanel& panel) {
  std::size_t seen = 0;
  for (std::size_t q = 0; q < s.size(); ++q) {
    for (std::size_t k = 0; k < s.size(); ++k) {
      const Sight sight = panel.sight(q, k);
      seen += sight == Sight::kBehind || sight == Sight::kAhead;
    }
  }
  return seen;
}

Status WritePicture(const Sequence& s, const std::vector<MaskPanel>& panels,
                    const std::string& path) {
  std::vector<bool> pictured;
  for (std::size_t i = 0; i < s.size(); ++i) pictured.push_back(s.pictured(i));
  const Result<std::vector<std::uint8_t>> png = DrawMask(panels, pictured, s.letters);
  if (!png) return png.error();
  return WriteFile(path, *png);
}

Status Run(const MaskFlags& flags) {
  const Result<Sequence> sequence = ReadSequence(flags);
  if (!sequence) return sequence.error();
  // Every pair is looked at.
  constexpr std::size_t kMost = 8192;
  if (sequence->size() > kMost) {
    return MakeError(ErrorCode::kInvalidArgument, "expected at most ", kMost, " tokens, found ",
                     sequence->size());
  }
  const std::vector<MaskPanel> panels = AllPanels(*sequence);
  if (!flags.output.empty()) {
    if (Status status = WritePicture(*sequence, panels, flags.output); !status) return status;
  }
  if (flags.json) {
    Json patterns = Json::array();
    for (const MaskPanel& panel : panels) {
      patterns.push_back({{"pattern", panel.title}, {"seen", CountSeen(*sequence, panel)}});
    }
    PrintJson(
        {{"tokens", sequence->size()}, {"letters", sequence->letters}, {"patterns", patterns}});
    return {};
  }
  const bool colours = ::isatty(STDOUT_FILENO) != 0;
  if (flags.layer != "local") WriteOut(PanelText(*sequence, panels[0], colours));
  if (flags.layer != "global") WriteOut(PanelText(*sequence, panels[1], colours));
  for (const MaskPanel& panel : panels) {
    WriteOut(StrCat(panel.title, ": ", CountSeen(*sequence, panel), " of ",
                    sequence->size() * sequence->size(), " pairs\n"));
  }
  return {};
}

}  // namespace

void AddMask(CLI::App& app, Command* chosen) {
  AddCommand<MaskFlags>(
      app, chosen, "mask", "Show which tokens of a prompt see which", Run,
      [](CLI::App& command, MaskFlags& flags) {
        AddText(command, {"-m,--model", "FILE", "The file whose vocabulary and window to use"},
                flags.model, Need::kOptional);
        CLI::App& what = AddOneOf(command, "Prompt", "Whose mask to show.");
        AddText(what, {"-p,--prompt", "TEXT", "A text, behind the pictures"}, flags.prompt);
        AddText(what, {"--ids-file", "FILE", "Decimal ids between white space"}, flags.ids_file);
        AddText(
            what,
            {"--layout", "LETTERS", "T text, B and E the markers of a picture, I its soft tokens"},
            flags.layout);
        AddImageFlags(command, flags.images);
        AddChoice(command, {"--layer", "KIND", "Only this kind of layer [both]"},
                  {"local", "global"}, flags.layer);
        AddNumber(command, {"--window", "N", "Of local layers [the model's, or 1024]"}, 1, 1 << 20,
                  flags.window);
        AddText(command, {"-o,--output", "FILE", "Draw all patterns into a PNG file"}, flags.output,
                Need::kOptional);
        AddJsonFlag(command, flags.json);
        SetFooter(
            command,
            "A row is a query, a column a key: # sees it, + sees it although it is later, - is "
            "beyond the\n"
            "window, . does not see it. Long runs are cut.\n"
            "Example:\n"
            "  lapidary mask --layout TTBIIIETBIIIET --window 6 -o mask.png");
      });
}

}  // namespace lapidary::cli
