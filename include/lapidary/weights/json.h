// Reading JSON that comes from outside: no exceptions, no surprises about types. Headers that a
// program needs to run a model do not include this one.
#ifndef LAPIDARY_WEIGHTS_JSON_H_
#define LAPIDARY_WEIGHTS_JSON_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"

namespace lapidary::internal {

using Json = nlohmann::json;

// Called for every value that is read, as nlohmann::json describes it; false drops the value.
using JsonFilter = Json::parser_callback_t;
using JsonFilterEvent = Json::parse_event_t;

// How deep arrays and objects may lie in one another. Files of models need 6; copying a Json goes
// down by recursion, and a file of some megabytes could use up the stack.
inline constexpr int kMostNested = 64;

// Whether brackets nest deeper, outside of texts. Behind the first mistake of a text that is no
// JSON the answer means nothing.
inline bool NestsTooDeep(std::string_view json) {
  int depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text) {
      if (c == '\\') ++i;
      if (c == '"') in_text = false;
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMostNested) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

// An object. kCorrupt says what `what` is; positions of mistakes are not told.
inline Result<Json> ParseJsonObject(std::span<const std::uint8_t> bytes, const char* what,
                                    const JsonFilter& filter = nullptr) {
  const std::string_view text = AsText(bytes);
  if (NestsTooDeep(text)) {
    return MakeError(ErrorCode::kCorrupt, what, " is nested more than ", kMostNested, " deep");
  }
  Json json = Json::parse(text.begin(), text.end(), filter, /*allow_exceptions=*/false);
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, what, " is no JSON object");
  return json;
}

// The member of an object; null if there is none, if it is null, or if `json` is no object.
inline const Json* Member(const Json& json, const char* key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

inline std::optional<double> NumberIn(const Json& json, const char* key) {
  const Json* value = Member(json, key);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  const double number = value->get<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

inline std::optional<std::string> TextIn(const Json& json, const char* key) {
  const Json* value = Member(json, key);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return value->get<std::string>();
}

}  // namespace lapidary::internal

#endif  // LAPIDARY_WEIGHTS_JSON_H_
