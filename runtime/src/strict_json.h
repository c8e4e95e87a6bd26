// JSON as RFC 8259 has it and nothing else.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "message.h"
#include "shufflenet/status.h"

namespace shufflenet {

/// Refuses what nlohmann::json::parse lets pass: duplicate keys, deep nesting, and a NUL byte, which it takes for the
/// end of the text. `what` is what error messages call the text. May throw std::bad_alloc.
inline Status parse_strict_json(std::string_view text, const std::string &file, const std::string &what,
                                nlohmann::json *out) {
    constexpr int kMaxDepth = 32;
    using Event = nlohmann::json::parse_event_t;
    struct Refusal {
        std::string reason;
    };
    std::vector<std::set<std::string>> keys;  // Of the objects that are open.
    const auto check = [&keys](int depth, Event event, nlohmann::json &value) {
        if (depth > kMaxDepth) throw Refusal{"is nested more than " + std::to_string(kMaxDepth) + " deep"};
        if (event == Event::object_start) keys.emplace_back();
        if (event == Event::object_end) keys.pop_back();
        if (event == Event::key) {
            const auto &key = value.get_ref<const std::string &>();
            if (!keys.back().insert(key).second) throw Refusal{"has two keys " + message::shortened(key)};
        }
        return true;
    };
    try {
        if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
            throw Refusal{"is not JSON (NUL at byte " + std::to_string(nul) + ")"};
        }
        *out = nlohmann::json::parse(text.begin(), text.end(), check);
        return {};
    } catch (const Refusal &refusal) {
        return message::bad_input(file, what + " " + refusal.reason);
    } catch (const nlohmann::json::parse_error &error) {
        return message::bad_input(file, what + " is not JSON (at byte " + std::to_string(error.byte) + ")");
    } catch (const nlohmann::json::exception &) {
        return message::bad_input(file, what + " is not JSON (a number is too large)");
    }
}

}  // namespace shufflenet
