// Reading JSON that comes from outside: no exceptions, no surprises about types. Headers that a
// program needs to run a model do not include this one.
#ifndef LAPIDARY_WEIGHTS_JSON_H_
#define LAPIDARY_WEIGHTS_JSON_H_

#include <cmath>
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

// An object. kCorrupt says what `what` is; positions of mistakes are not told.
inline Result<Json> ParseJsonObject(std::span<const std::uint8_t> bytes, const char* what,
                                    const JsonFilter& filter = nullptr) {
  const std::string_view text = AsText(bytes);
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
