// lapidary tokenize: text to ids.
#include <CLI/CLI.hpp>
#include <memory>
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
  std::string text;
  bool has_text = false;
  bool bos = false;
  bool prompt = false;
  bool json = false;
};

Status Run(const TokenizeFlags& flags) {
  const Result<WeightHeader> header = WeightHeader::Read(flags.model);
  if (!header) return header.error();
  const Result<Tokenizer> tokenizer = ReadTokenizer(*header, flags.model);
  if (!tokenizer) return tokenizer.error();

  std::string text = flags.text;
  if (!flags.has_text) {
    Result<std::string> read = ReadText("-");
    if (!read) return read.error();
    text = *std::move(read);
  }
  std::vector<std::int32_t> ids =
      flags.prompt ? tokenizer->EncodePrompt(text) : tokenizer->Encode(text);
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
        command.add_option("-m,--model", flags.model, "The file whose vocabulary to use")
            ->required()
            ->type_name("FILE");
        command
            .add_option_function<std::string>(
                "TEXT",
                [&flags](const std::string& text) {
                  flags.text = text;
                  flags.has_text = true;
                },
                "The text; standard input if there is none")
            ->type_name("");
        command.add_flag("--bos", flags.bos, "Put <bos> in front");
        command.add_flag("--prompt", flags.prompt,
                         "Read the text as generate does: one <bos> in front, and names of control "
                         "pieces such as <start_of_turn> are these pieces");
        AddJsonFlag(command, flags.json);
        command.footer(
            "Without --json the ids are an ids file for lapidary logits.\n"
            "Example:\n"
            "  lapidary tokenize -m gemma-3-270m.lap --bos \"Hello, world\" > hello.ids");
      });
}

}  // namespace lapidary::cli
