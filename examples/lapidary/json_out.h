// The one JSON object of --json.
#ifndef LAPIDARY_EXAMPLES_JSON_OUT_H_
#define LAPIDARY_EXAMPLES_JSON_OUT_H_

#include <nlohmann/json.hpp>

#include "terminal.h"

namespace lapidary::cli {

// Keeps the fields in the order in which they were set.
using Json = nlohmann::ordered_json;

// Texts that are not UTF-8 (names of files may be anything) get U+FFFD where they are not.
inline void PrintJson(const Json& json) {
  WriteOut(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_JSON_OUT_H_
