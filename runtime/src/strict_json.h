// JSON as RFC 8259 has it and nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// A JSON value. Not nlohmann::json, which needs memory to be destroyed: where there is none, it ends the process.
struct Json {
    using Array = std::vector<Json>;
    using Object = std::map<std::string, Json, std::less<>>;

    /// Null is the first alternative; integers from 0 on are unsigned.
    std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Array, Object> value;

    /// The value if it is a T, else nullptr.
    template <typename T>
    const T *as() const {
        return std::get_if<T>(&value);
    }
    /// What is not an object has no keys.
    const Json *find(std::string_view key) const;
};

/// The value as JSON in ASCII, in one line.
std::string to_text(const Json &value);

/// Refuses what nlohmann's parser lets pass: duplicate keys, deep nesting, and a NUL byte, which it takes for the end
/// of the text. `what` is what error messages call the text. May throw std::bad_alloc.
Status parse_strict_json(std::string_view text, const std::string &file, const std::string &what, Json *out);

}  // namespace shufflenet
