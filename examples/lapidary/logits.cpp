// lapidary logits: what the model predicts after each id, as raw numbers.
#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "any_model.h"
#include "command.h"
#include "images.h"
#include "json_out.h"
#include "lapidary/base/file.h"
#include "machine.h"
#include "model_flags.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "rows are written as they are in memory");

struct LogitsFlags {
  ModelFlags model;
  ImageFlags images;
  std::string ids_file;
  std::string output;
  bool last = false;
  bool decode = false;
  bool json = false;
};

// Runs the ids and hands out the rows that are wanted, in order.
Status ForEachRow(AnySession& session, const Prompt& prompt, const LogitsFlags& flags,
                  const AnySession::RowVisitor& visit) {
  const std::vector<std::int32_t>& ids = prompt.ids;
  ProgressMeter meter("computing", ProgressMeter::Unit::kTokens);
  if (flags.decode && !prompt.images.empty()) {
    return MakeError(ErrorCode::kUnsupported,
                     "--decode: the rows of a picture are computed together, never one by one");
  }
  if (flags.decode) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const Result<std::span<const float>> row = session.Decode(ids[i]);
      if (!row) return row.error();
      const bool wanted = !flags.last || i + 1 == ids.size();
      if ((wanted && !visit(i, *row)) || !meter({i + 1, ids.size()})) {
        return MakeError(ErrorCode::kCancelled, "cancelled");
      }
    }
    return {};
  }
  if (flags.last) {
    if (Status status = session.Prefill(prompt, std::ref(meter)); !status) return status;
    visit(ids.size() - 1, session.logits());
    return {};
  }
  const auto metered = [&](std::size_t i, std::span<const float> row) {
    return visit(i, row) && meter({i + 1, ids.size()});
  };
  // A row of logits is a megabyte: by default only a part of a chunk's rows at once.
  const bool chunk_given = flags.model.chunk != ModelFlags().chunk;
  return session.PrefillWithLogits(prompt, metered, chunk_given ? flags.model.chunk : 64);
}

Status Run(const LogitsFlags& flags) {
  CatchInterrupts();
  const Result<std::vector<std::int32_t>> ids = ReadIds(flags.ids_file);
  if (!ids) return ids.error();
  const Result<OpenedModel> opened = OpenModelOf(flags.model, /*needs_text=*/false);
  if (!opened) return opened.error();
  Result<std::vector<ImageEmbedding>> images = EncodeImages(*opened->model, flags.images);
  if (!images) return images.error();
  const Prompt prompt = {*ids, *std::move(images)};
  Result<std::unique_ptr<AnySession>> session = opened->NewSession(flags.model);
  if (!session) return session.error();
  Result<OutputFile> output = OutputFile::Create(flags.output);
  if (!output) return output.error();

  const Stopwatch watch;
  std::uint64_t written = 0;
  Status write_status;
  const Status status =
      ForEachRow(**session, prompt, flags, [&](std::size_t, std::span<const float> row) {
        const std::span bytes(reinterpret_cast<const std::uint8_t*>(row.data()), row.size_bytes());
        write_status = output->WriteAt(written, bytes);
        written += bytes.size();
        return write_status.ok();
      });
  if (!write_status) return write_status;
  if (!status) return status;
  if (Status committed = output->Commit(); !committed) return committed;
  const double seconds = watch.seconds();

  const std::size_t rows = flags.last ? 1 : ids->size();
  const std::size_t vocabulary = (*session)->logits().size();
  const std::string hash = HashOf((*session)->logits());
  if (flags.json) {
    PrintJson({{"ids", ids->size()},
               {"rows", rows},
               {"vocabulary", vocabulary},
               {"output", flags.output},
               {"seconds", seconds},
               {"precision", PrecisionName(opened->model->precision())},
               {"target", TargetName()},
               {"threads", opened->model->threads()},
               {"logits_hash", hash}});
    return {};
  }
  WriteOut(StrCat(flags.output, ": ", rows, " x ", vocabulary, " float32 of ", ids->size(),
                  " ids in ", Fixed(seconds, 2), " s, ", TargetName(), ", ",
                  opened->model->threads(), " threads, last row ", hash, "\n"));
  return {};
}

}  // namespace

void AddLogits(CLI::App& app, Command* chosen) {
  AddCommand<LogitsFlags>(
      app, chosen, "logits", "Write the logits after each id of a sequence", Run,
      [](CLI::App& command, LogitsFlags& flags) {
        AddModelFlags(command, flags.model);
        AddContextFlag(command, flags.model);
        AddText(command,
                {"--ids-file", "FILE",
                 "Decimal ids between white space, used as they are (- is standard input)"},
                flags.ids_file, Need::kRequired);
        AddImageFlags(command, flags.images);
        AddText(command,
                {"-o,--output", "FILE",
                 "Gets a row of float32 per id, as many as the embedding has rows"},
                flags.output, Need::kRequired);
        AddFlag(command, "--last", "Only the row of the last id", flags.last);
        AddFlag(command, "--decode", "Token by token, as generation does", flags.decode);
        AddJsonFlag(command, flags.json);
        SetFooter(command,
                  "Example:\n"
                  "  lapidary logits -m gemma-3-270m.lap --ids-file hello.ids -o hello.f32");
      });
}

}  // namespace lapidary::cli
