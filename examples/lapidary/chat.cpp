// lapidary chat: a conversation.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command.h"
#include "images.h"
#include "json_out.h"
#include "lapidary/base/file.h"
#include "lapidary/generate/engine.h"
#include "machine.h"
#include "model_flags.h"
#include "sampling_flags.h"
#include "speed_line.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

struct ChatFlags {
  ModelFlags model;
  std::string system;
  std::size_t tokens = 1024;
  // What Gemma 3's generation_config.json recommends.
  SamplingFlags sampling = {{.temperature = 1, .top_k = 64, .top_p = 0.95f}};
  bool pan_and_scan = false;
  bool json = false;
};

constexpr const char* kHelp =
    "/image FILE   show a picture with the next question\n"
    "/save FILE    write the conversation to a file\n"
    "/load FILE    go on with a conversation that /save wrote\n"
    "/reset        begin a new conversation\n"
    "/stats        tokens, memory and speed so far\n"
    "/help         this list\n"
    "/quit         end (so does the end of the input)\n"
    "Ctrl-C ends a reply; at the prompt it ends the program.\n";

void Tell(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }

class Conversation {
 public:
  Conversation(const ChatFlags& flags, const Engine& model)
      : flags_(flags),
        model_(model),
        chat_(model.NewChat(flags.system, flags.model.context)),
        sampling_(flags.sampling.options()) {}

  // One line of the user's. False ends the conversation; what goes wrong in one turn ends only
  // that.
  bool Take(const std::string& line) {
    if (line.empty()) return true;
    if (line == "/quit") return false;
    Status status;
    if (line[0] != '/') {
      status = Ask(line);
    } else {
      const std::size_t space = line.find(' ');
      const std::string_view command = std::string_view(line).substr(0, space);
      const std::string rest = space == line.npos ? "" : line.substr(space + 1);
      status = Do(command, rest);
    }
    if (!status) PrintMessage(status.error().message);
    return WriteOutError() == 0;
  }

  const EngineChat& chat() const { return *chat_; }
  const std::optional<GenerateResult>& last() const { return last_; }

 private:
  Status Do(std::string_view command, const std::string& file) {
    if (command == "/help") return Tell(kHelp), Status();
    if (command == "/reset") return chat_->Reset(), images_.clear(), Status();
    if (command == "/stats") return Stats();
    const bool has_file = command == "/image" || command == "/save" || command == "/load";
    if (!has_file) {
      return MakeError(ErrorCode::kInvalidArgument, command, " is no command; /help lists them");
    }
    if (file.empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "expected ", command, " FILE");
    }
    if (command == "/image") return Show(file);
    if (command == "/save") return WriteFile(file, chat_->Save());
    return Load(file);
  }

  Status Show(const std::string& file) {
    Result<std::vector<ImageEmbedding>> images =
        EncodeImages(model_, {.paths = {file}, .pan_and_scan = flags_.pan_and_scan});
    if (!images) return images.error();
    images_.push_back(std::move(images->front()));
    return {};
  }

  Status Load(const std::string& file) {
    const Result<InputFile> bytes = InputFile::Open(file, LoadMode::kCopy);
    if (!bytes) return bytes.error();
    Result<std::unique_ptr<EngineChat>> chat = model_.RestoreChat(bytes->bytes());
    if (!chat) {
      return MakeError(chat.error().code, file, ": ", chat.error().message);
    }
    chat_ = *std::move(chat);
    Tell(StrCat(chat_->messages().size(), " messages, ", chat_->position(), " tokens\n"));
    return {};
  }

  Status Stats() {
    Tell(StrCat(chat_->messages().size(), " messages, ", chat_->position(), " of ",
                chat_->context(), " tokens; keys and values of a full context take ",
                Bytes(static_cast<double>(chat_->memory_plan().bytes)), "\n"));
    if (last_) Tell(SpeedLineOfLast());
    return {};
  }

  Status Ask(const std::string& question) {
    GenerateOptions options;
    options.max_tokens = flags_.tokens;
    options.sampling = sampling_;
    ++sampling_.seed;  // another draw for each reply
    auto meter = std::make_unique<ProgressMeter>("reading", ProgressMeter::Unit::kTokens);
    options.prefill_progress = [&](const Progress& progress) {
      const bool go_on = (*meter)(progress);
      if (progress.done == progress.total) meter.reset();
      return go_on;
    };
    Result<GenerateResult> reply = chat_->Send(
        question, images_,
        [&](std::string_view text) { return (flags_.json || WriteOut(text)) && !Interrupted(); },
        options);
    meter.reset();
    ForgetInterrupt();
    if (!reply) return reply.error();
    images_.clear();
    last_ = *std::move(reply);
    if (!flags_.json) WriteOut("\n");
    return {};
  }

 public:
  std::string SpeedLineOfLast() const {
    return SpeedLine(*last_, Speed(*last_, chat_->position(), model_), model_,
                     HashOf(chat_->logits()));
  }

 private:
  const ChatFlags& flags_;
  const Engine& model_;
  std::unique_ptr<EngineChat> chat_;
  SamplingOptions sampling_;
  std::vector<ImageEmbedding> images_;  // for the next question
  std::optional<GenerateResult> last_;
};

Json JsonOf(const EngineChat& chat, const Engine& model) {
  Json messages = Json::array();
  for (const ChatMessage& message : chat.messages()) {
    messages.push_back({{"role", RoleName(message.role)},
                        {"content", message.content},
                        {"images", message.images.size()}});
  }
  return {{"messages", messages},      {"tokens", chat.position()},
          {"context", chat.context()}, {"model", model.name()},
          {"target", model.target()},  {"logits_hash", HashOf(chat.logits())}};
}

Status Run(const ChatFlags& flags) {
  const Result<OpenedModel> opened = OpenModelOf(flags.model);
  if (!opened) return opened.error();
  const Engine& model = *opened->model;
  if (Status status = opened->CheckContext(flags.model); !status) return status;
  const bool at_terminal = ::isatty(STDIN_FILENO) != 0 && !flags.json;
  if (at_terminal) Tell("/help lists the commands.\n");
  CatchInterrupts();
  Conversation conversation(flags, model);
  for (std::string line;;) {
    if (at_terminal) Tell("> ");
    if (!std::getline(std::cin, line) || Interrupted() || !conversation.Take(line)) break;
  }
  if (flags.json) {
    PrintJson(JsonOf(conversation.chat(), model));
  } else if (conversation.last() && WriteOutError() == 0) {
    Tell(conversation.SpeedLineOfLast());
  }
  return {};
}

}  // namespace

void AddChat(CLI::App& app, Command* chosen) {
  AddCommand<ChatFlags>(
      app, chosen, "chat", "Talk with an instruction-tuned model", Run,
      [](CLI::App& command, ChatFlags& flags) {
        AddModelFlags(command, flags.model);
        AddContextFlag(command, flags.model);
        AddText(command, {"--system", "TEXT", "Goes in front of the first question"}, flags.system,
                Need::kOptional);
        AddPanAndScanFlag(command, flags.pan_and_scan);
        AddNumber(command, {"-n,--tokens", "N", "Most tokens of a reply [1024]"}, 1, 1 << 30,
                  flags.tokens);
        AddSamplingFlags(command, flags.sampling);
        AddJsonFlag(command, flags.json);
        SetFooter(
            command,
            "Each line of standard input is a question. Lines that begin with / are commands:\n"
            "  /image FILE, /save FILE, /load FILE, /reset, /stats, /help, /quit\n"
            "Only replies go to standard output; with --json the whole conversation, at the "
            "end.\n"
            "Example:\n"
            "  lapidary chat -m gemma-3-1b-it.lap --system \"Answer in one sentence.\"");
      });
}

}  // namespace lapidary::cli
