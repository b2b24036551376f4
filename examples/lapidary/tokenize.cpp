// lapidary tokenize: text to ids.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "json_out.h"
#include "lapidary/text/tokenizer.h"
#include "terminal.h"
#include "weight_header.h"

namespace lapidary::cli {
namespace {

struct TokenizeFlags {
  std::string model;
  std::optional<std::string> text;
  bool bos = false;
  bool prompt = false;
  bool json = false;
};

Status Run(const TokenizeFlags& flags) {
  const Result<WeightHeader> header = WeightHeader::Read(flags.model);
  if (!header) return header.error();
  const Result<Tokenizer> tokenizer = ReadTokenizer(*header, flags.model);
  if (!tokenizer) return tokenizer.error();

  const Result<std::string> text = flags.text ? *flags.text : ReadText("-");
  if (!text) return text.error();
  std::vector<std::int32_t> ids =
      flags.prompt ? tokenizer->EncodePrompt(*text) : tokenizer->Encode(*text);
  if (flags.bos && !flags.prompt) ids.insert(ids.begin(), kBos);

  if (flags.json) {
    Json pieces = Json::array();
    for (const std::int32_t id : ids) pieces.push_back(tokenizer->Piece(id));
    PrintJson({{"ids", ids}, {"pieces", pieces}});
    return {};
  }
  std::string line;
  for (const std::int32_t id : ids) line += StrCat(line.empty() ? "" : " ", id);
  WriteOut(line + "\n");
  return {};
}

}  // namespace

void AddTokenize(CLI::App& app, Command* chosen) {
  AddCommand<TokenizeFlags>(
      app, chosen, "tokenize", "Print the ids of a text", Run,
      [](CLI::App& command, TokenizeFlags& flags) {
        AddText(command, {"-m,--model", "FILE", "The file whose vocabulary to use"}, flags.model,
                Need::kRequired);
        AddText(command, {"TEXT", "", "The text; standard input if there is none"}, flags.text);
        AddFlag(command, "--bos", "Put <bos> in front", flags.bos);
        AddFlag(command, "--prompt",
                "Read the text as generate does: one <bos> in front, and names of control pieces "
                "such as <start_of_turn> are these pieces",
                flags.prompt);
        AddJsonFlag(command, flags.json);
        SetFooter(command,
                  "Without --json the ids are an ids file for lapidary logits.\n"
                  "Example:\n"
                  "  lapidary tokenize -m gemma-3-270m.lap --bos \"Hello, world\" > hello.ids");
      });
}

}  // namespace lapidary::cli
