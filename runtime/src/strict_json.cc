#include "strict_json.h"

#include <nlohmann/json.hpp>

#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr size_t kMaxDepth = 32;

/// nlohmann's error for a number beyond its type.
constexpr int kOutOfRange = 406;

/// Receives the parser's events and builds the value. Each function returns whether to go on.
class Builder {
  public:
    // What nlohmann's parser wants to find.
    using number_integer_t = int64_t;
    using number_unsigned_t = uint64_t;
    using number_float_t = double;
    using string_t = std::string;
    using binary_t = nlohmann::json::binary_t;

    explicit Builder(Json *root) : root_(root) {}

    bool null() { return add(std::monostate()); }
    bool boolean(bool value) { return add(value); }
    bool number_integer(int64_t value) { return add(value); }
    bool number_unsigned(uint64_t value) { return add(value); }
    bool number_float(double value, const std::string & /*digits*/) { return add(value); }
    bool string(std::string &value) { return add(std::move(value)); }
    static bool binary(binary_t & /*value*/) { return false; }  // JSON has none.
    bool start_object(size_t /*size*/) { return open(Json::Object()); }
    bool end_object() { return close(); }
    bool start_array(size_t /*size*/) { return open(Json::Array()); }
    bool end_array() { return close(); }
    bool key(std::string &name) {
        const auto [entry, is_new] = std::get<Json::Object>(open_.back()->value).try_emplace(std::move(name));
        if (!is_new) return refuse("has two keys " + message::shortened(entry->first));
        member_ = &entry->second;
        return true;
    }
    bool parse_error(size_t position, const std::string & /*token*/, const nlohmann::json::exception &error) {
        return refuse("is not JSON (" +
                      (error.id == kOutOfRange ? "a number is too large" : "at byte " + std::to_string(position)) +
                      ")");
    }

    /// What is wrong, or nothing.
    const std::string &problem() const { return problem_; }

  private:
    /// Puts a value where the next one belongs.
    template <typename T>
    bool add(T &&value) {
        Json *place = root_;
        if (!open_.empty()) {
            auto *array = std::get_if<Json::Array>(&open_.back()->value);
            place = array != nullptr ? &array->emplace_back() : member_;
        }
        place->value = std::forward<T>(value);
        last_ = place;
        return true;
    }
    template <typename T>
    bool open(T &&empty) {
        if (open_.size() == kMaxDepth) return refuse("is nested more than " + std::to_string(kMaxDepth) + " deep");
        add(std::forward<T>(empty));
        open_.push_back(last_);
        return true;
    }
    bool close() {
        open_.pop_back();
        return true;
    }
    bool refuse(std::string problem) {
        problem_ = std::move(problem);
        return false;
    }

    Json *root_;
    std::vector<Json *> open_;  ///< The arrays and objects that have not ended. None is moved: only the last one grows.
    Json *member_ = nullptr, *last_ = nullptr;
    std::string problem_;
};

std::string quoted(const std::string &text) { return nlohmann::json(text).dump(-1, ' ', true); }

}  // namespace

const Json *Json::find(std::string_view key) const {
    const auto *object = as<Object>();
    if (object == nullptr) return nullptr;
    const auto found = object->find(key);
    return found == object->end() ? nullptr : &found->second;
}

std::string to_text(const Json &value) {
    if (const auto *array = value.as<Json::Array>()) {
        std::string text;
        for (const Json &item : *array) text += (text.empty() ? "" : ",") + to_text(item);
        return "[" + text + "]";
    }
    if (const auto *object = value.as<Json::Object>()) {
        std::string text;
        for (const auto &[key, item] : *object) text += (text.empty() ? "" : ",") + quoted(key) + ":" + to_text(item);
        return "{" + text + "}";
    }
    if (const auto *text = value.as<std::string>()) return quoted(*text);
    if (const auto *flag = value.as<bool>()) return *flag ? "true" : "false";
    if (const auto *number = value.as<int64_t>()) return std::to_string(*number);
    if (const auto *number = value.as<uint64_t>()) return std::to_string(*number);
    if (const auto *number = value.as<double>()) return nlohmann::json(*number).dump();
    return "null";
}

Status parse_strict_json(std::string_view text, const std::string &file, const std::string &what, Json *out) {
    if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
        return message::bad_input(file, what + " is not JSON (NUL at byte " + std::to_string(nul) + ")");
    }
    Json root;
    Builder builder(&root);
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
        return message::bad_input(file, what + " " + builder.problem());
    }
    *out = std::move(root);
    return {};
}

}  // namespace shufflenet
