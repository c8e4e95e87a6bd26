// Text with names in it.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace shufflenet::compile {

/// `pattern` with the value of each @name@ in its place. Throws std::logic_error for a name without a value.
std::string fill(std::string_view pattern, const std::map<std::string, std::string, std::less<>> &values);

/// In capitals, with an underscore for all that no C identifier has.
std::string macro_name(std::string_view text);

/// A C string literal, without the quotes.
std::string literal(std::string_view text);

}  // namespace shufflenet::compile
