#include "text.h"

#include <cctype>
#include <cstdio>
#include <stdexcept>

namespace shufflenet::compile {

std::string fill(std::string_view pattern, const std::map<std::string, std::string, std::less<>> &values) {
    std::string text;
    while (!pattern.empty()) {
        const size_t begin = pattern.find('@');
        text += pattern.substr(0, begin);
        if (begin == std::string_view::npos) break;
        const size_t end = pattern.find('@', begin + 1);
        const std::string_view name = pattern.substr(begin + 1, end - begin - 1);
        const auto value = values.find(name);
        if (value == values.end()) throw std::logic_error("no value for @" + std::string(name) + "@");
        text += value->second;
        pattern.remove_prefix(end + 1);
    }
    return text;
}

std::string macro_name(std::string_view text) {
    std::string name;
    for (const unsigned char ch : text) name += std::isalnum(ch) != 0 ? static_cast<char>(std::toupper(ch)) : '_';
    return name;
}

std::string literal(std::string_view text) {
    std::string escaped;
    for (const char ch : text) {
        const auto code = static_cast<unsigned char>(ch);
        if (ch == '"' || ch == '\\') {
            (escaped += '\\') += ch;
        } else if (code >= 0x20 && code < 0x7F) {
            escaped += ch;
        } else {
            char octal[8];
            std::snprintf(octal, sizeof octal, "\\%03o", code);
            escaped += octal;
        }
    }
    return escaped;
}

}  // namespace shufflenet::compile
