// lapidary bench: how fast this machine runs a model, and how far from what it could do.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "command.h"
#include "json_out.h"
#include "lapidary/config/models.h"
#include "lapidary/generate/engine.h"
#include "machine.h"
#include "model_flags.h"
#include "terminal.h"
#include "work.h"

namespace lapidary::cli {
namespace {

struct BenchFlags {
  ModelFlags model;
  std::size_t prefill = 512;
  std::size_t decode = 128;
  std::size_t runs = 5;
  std::size_t sessions = 1;
  std::optional<std::string> ids_file;
  bool image = false;
  bool all_logits = false;
  bool json = false;
};

struct BenchRun {
  double prefill_seconds = 0;  // also the time to the first token
  double decode_seconds = 0;
  std::string hash;  // of the last logits
};

// The beginning of a file of ids, or <bos> and ids of ordinary pieces: the same in every run and on
// every machine. The speed of a prompt does not depend on which; a greedy step reads less of the
// output head where the next token is plain, as it is in texts.
Result<std::vector<std::int32_t>> PromptIds(const BenchFlags& flags) {
  const std::size_t count = flags.prefill;
  if (flags.ids_file) {
    Result<std::vector<std::int32_t>> ids = ReadIds(*flags.ids_file);
    if (!ids) return ids.error();
    if (ids->size() < count) {
      return MakeError(ErrorCode::kInvalidArgument, *flags.ids_file, ": expected at least ", count,
                       " ids (--prefill), found ", ids->size());
    }
    ids->resize(count);
    return ids;
  }
  std::mt19937 random(1);
  std::vector<std::int32_t> ids = {kBos};
  while (ids.size() < count) ids.push_back(static_cast<std::int32_t>(1000 + random() % 200'000));
  return ids;
}

// The most likely token; <bos> where all logits are NaN.
std::int32_t Likeliest(EngineSession& session) {
  const std::span<const TokenLogit> best = session.Best(1);
  return best.empty() ? kBos : best.front().id;
}

Result<BenchRun> RunOnce(const OpenedModel& opened, const BenchFlags& flags,
                         std::span<const std::int32_t> ids) {
  Result<std::unique_ptr<EngineSession>> session = opened.NewSession(flags.model);
  if (!session) return session.error();
  BenchRun run;
  const Stopwatch prefill;
  if (Status status = (*session)->Prefill(ids); !status) return status.error();
  // What a greedy generation does, or one that wants probabilities.
  const auto choose = [&] {
    if (flags.all_logits) (*session)->logits();
    return Likeliest(**session);
  };
  std::int32_t next = choose();
  run.prefill_seconds = prefill.seconds();
  const Stopwatch decode;
  for (std::size_t i = 0; i < flags.decode; ++i) {
    if (Status status = (*session)->Append(next); !status) return status.error();
    next = choose();
  }
  run.decode_seconds = decode.seconds();
  run.hash = HashOf((*session)->logits());
  return run;
}

double Median(std::vector<double> values) {
  const std::size_t middle = values.size() / 2;
  std::sort(values.begin(), values.end());
  return values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double MedianOf(std::span<const BenchRun> runs, double BenchRun::*member) {
  std::vector<double> values;
  for (const BenchRun& run : runs) values.push_back(run.*member);
  return Median(std::move(values));
}

// Tokens per second of `sessions` sessions together, which all say the same.
Result<double> TimeTogether(const OpenedModel& opened, const BenchFlags& flags,
                            std::span<const std::int32_t> ids) {
  Result<std::unique_ptr<EngineSession>> first = opened.NewSession(flags.model);
  if (!first) return first.error();
  if (Status status = (*first)->Prefill(ids); !status) return status.error();
  std::vector<std::unique_ptr<EngineSession>> sessions;
  std::vector<EngineSession*> all;
  for (std::size_t i = 0; i < flags.sessions; ++i) {
    sessions.push_back((*first)->Fork());
    all.push_back(sessions.back().get());
  }
  std::vector<double> seconds;
  std::int32_t id = Likeliest(**first);
  for (std::size_t i = 0; i < flags.decode; ++i) {
    const std::vector<std::int32_t> next(flags.sessions, id);
    const Stopwatch watch;
    if (Status status = opened.model->DecodeTogether(all, next, flags.all_logits ? 0 : 1); !status)
      return status.error();
    seconds.push_back(watch.seconds());
    id = Likeliest(*all[0]);
  }
  return static_cast<double>(flags.sessions) / Median(std::move(seconds));
}

// Seconds to encode a picture of the encoder's own size, so that resizing counts for nothing.
Result<double> TimeImage(const Engine& model, std::size_t runs) {
  const auto side = static_cast<std::size_t>(model.config().vision.image);
  if (side == 0) return MakeError(ErrorCode::kUnsupported, model.name(), " reads no pictures");
  Result<Picture> picture = Picture::Create(side, side);
  if (!picture) return picture.error();
  for (std::size_t y = 0; y < side; ++y) {
    for (std::size_t x = 0; x < picture->row_bytes(); ++x) {
      picture->row(y)[x] = static_cast<std::uint8_t>(x ^ y);
    }
  }
  std::vector<double> seconds;
  for (std::size_t i = 0; i < runs; ++i) {
    const Stopwatch watch;
    if (auto image = model.EncodeImage(*picture); !image) return image.error();
    seconds.push_back(watch.seconds());
  }
  return Median(std::move(seconds));
}

struct Report {
  double prefill_tok_s = 0, prefill_top_s = 0;
  double first_token = 0, read_gb_s = 0;
  // What was not asked for, or needs more than one run, is not there.
  std::optional<double> first_token_warm, decode_tok_s, decode_gb_s, together_tok_s, image;
  std::string hash;
};

Result<Report> Measure(const OpenedModel& opened, const BenchFlags& flags) {
  const Engine& model = *opened.model;
  const Result<std::vector<std::int32_t>> ids = PromptIds(flags);
  if (!ids) return ids.error();
  std::vector<BenchRun> runs;
  for (std::size_t i = 0; i < flags.runs; ++i) {
    Result<BenchRun> run = RunOnce(opened, flags, *ids);
    if (!run) return run.error();
    runs.push_back(*std::move(run));
    if (runs.back().hash != runs.front().hash) {
      return MakeError(ErrorCode::kCorrupt, "run ", i + 1, " has other logits (", runs.back().hash,
                       ") than run 1 (", runs.front().hash, "): the speeds mean nothing");
    }
  }
  Report report;
  if (flags.sessions > 1 && flags.decode > 0) {
    const Result<double> together = TimeTogether(opened, flags, *ids);
    if (!together) return together.error();
    report.together_tok_s = *together;
  }
  if (flags.image) {
    const Result<double> seconds = TimeImage(model, flags.runs);
    if (!seconds) return seconds.error();
    report.image = *seconds;
  }
  const Result<double> read = MeasureReadBandwidth(model.threads(), 8);
  if (!read) return read.error();
  report.read_gb_s = 1e-9 * *read;
  report.prefill_tok_s =
      static_cast<double>(flags.prefill) / MedianOf(runs, &BenchRun::prefill_seconds);
  report.prefill_top_s = 2e-12 * PrefillWeights(model.file()) * report.prefill_tok_s;
  report.first_token = runs.front().prefill_seconds;
  if (runs.size() > 1) {
    report.first_token_warm = MedianOf(std::span(runs).subspan(1), &BenchRun::prefill_seconds);
  }
  if (flags.decode > 0) {
    report.decode_tok_s =
        static_cast<double>(flags.decode) / MedianOf(runs, &BenchRun::decode_seconds);
    report.decode_gb_s = 1e-9 * *report.decode_tok_s *
                         DecodeBytes(model.file(), flags.prefill, flags.decode,
                                     flags.all_logits ? HeadUse::kLogits : HeadUse::kBest);
  }
  report.hash = runs.front().hash;
  return report;
}

Json JsonOf(const Report& report, const OpenedModel& opened, const BenchFlags& flags) {
  const Engine& model = *opened.model;
  const auto or_null = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json();
  };
  return {{"model", NameOf(model.config())},
          {"precision", PrecisionName(model.precision())},
          {"prefill_tokens", flags.prefill},
          {"decode_tokens", flags.decode},
          {"runs", flags.runs},
          {"prefill_tok_s", report.prefill_tok_s},
          {"decode_tok_s", or_null(report.decode_tok_s)},
          {"decode_gb_s", or_null(report.decode_gb_s)},
          {"read_gb_s_limit", report.read_gb_s},
          {"sessions", flags.sessions},
          {"together_tok_s", or_null(report.together_tok_s)},
          {"prefill_top_s", report.prefill_top_s},
          {"first_token_s", report.first_token},
          {"first_token_warm_s", or_null(report.first_token_warm)},
          {"image_s", or_null(report.image)},
          {"load_s", opened.load_seconds},
          {"target", model.target()},
          {"threads", model.threads()},
          {"logits_hash", report.hash}};
}

std::string TextOf(const Report& report, const OpenedModel& opened, const BenchFlags& flags) {
  const Engine& model = *opened.model;
  std::string text =
      StrCat(NameOf(model.config()), ", ", PrecisionName(model.precision()), ", ", model.target(),
             ", ", model.threads(), model.threads() == 1 ? " thread" : " threads", ", median of ",
             flags.runs, "\n");
  text += StrCat("load         ", Fixed(opened.load_seconds, 3), " s\n");
  text += StrCat("prefill ", flags.prefill, "  ", Fixed(report.prefill_tok_s, 1), " tok/s, ",
                 Fixed(report.prefill_top_s, 2), " TOP/s\n");
  if (report.decode_tok_s) {
    text += StrCat("decode ", flags.decode, "   ", Fixed(*report.decode_tok_s, 1), " tok/s, ",
                   Fixed(*report.decode_gb_s, 1),
                   " GB/s = ", Fixed(100 * *report.decode_gb_s / report.read_gb_s, 0),
                   " % of the memory's ", Fixed(report.read_gb_s, 1), " GB/s\n");
  }
  text += StrCat("first token  ", Fixed(report.first_token, 3), " s in the first run");
  if (report.first_token_warm) {
    text += StrCat(", ", Fixed(*report.first_token_warm, 3), " s later");
  }
  if (report.together_tok_s) {
    text += StrCat("\ntogether     ", Fixed(*report.together_tok_s, 1), " tok/s of ",
                   flags.sessions, " sessions");
  }
  if (report.image) text += StrCat("\npicture      ", Fixed(*report.image, 2), " s");
  return text + StrCat("\nlogits       ", report.hash, "\n");
}

Status Run(const BenchFlags& flags) {
  const Result<OpenedModel> opened = OpenModelOf(flags.model, /*needs_text=*/false);
  if (!opened) return opened.error();
  const Result<Report> report = Measure(*opened, flags);
  if (!report) return report.error();
  if (flags.json) {
    PrintJson(JsonOf(*report, *opened, flags));
  } else {
    WriteOut(TextOf(*report, *opened, flags));
  }
  return {};
}

}  // namespace

void AddBench(CLI::App& app, Command* chosen) {
  AddCommand<BenchFlags>(
      app, chosen, "bench", "Measure speed", Run, [](CLI::App& command, BenchFlags& flags) {
        AddModelFlags(command, flags.model);
        AddContextFlag(command, flags.model);
        AddNumber(command, {"-p,--prefill", "N", "Tokens of the prompt [512]"}, 1, 1 << 20,
                  flags.prefill);
        AddNumber(command, {"-n,--decode", "N", "Tokens to decode after it [128]"}, 0, 1 << 20,
                  flags.decode);
        AddNumber(command, {"-r,--runs", "N", "Runs; medians are reported [5]"}, 1, 1000,
                  flags.runs);
        AddNumber(command, {"--sessions", "N", "Time N sessions that decode together too [1]"}, 1,
                  1024, flags.sessions);
        AddText(command,
                {"--ids-file", "FILE",
                 "Decimal ids between white space, of which the prompt is the beginning; otherwise "
                 "it is drawn at random"},
                flags.ids_file);
        AddFlag(command, "--image", "Time the encoding of a picture too", flags.image);
        AddFlag(command, "--all-logits",
                "Compute the logits of all tokens at every step, as generations need that ask for "
                "probabilities; otherwise the most likely token is found, as greedy ones do",
                flags.all_logits);
        AddJsonFlag(command, flags.json);
        SetFooter(command,
                  "TOP/s counts two operations for every weight of the layers and token. GB/s "
                  "counts the\n"
                  "weights and the keys and values that a step must read; the memory's own speed "
                  "is measured\n"
                  "with as many threads.\n"
                  "Example:\n"
                  "  lapidary bench -m gemma-3-270m.lap -p 512 -n 128 --json");
      });
}

}  // namespace lapidary::cli
