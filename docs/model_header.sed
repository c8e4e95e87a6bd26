# For Doxygen: what generators/compile/emit_header.cc writes, of a model called "name" with an output called "OUTPUT".
/std::string_view kHeader/,/^)";/ b text
/std::string_view kClasses/,/^)";/ b text
/std::string_view kOutput/,/^)";/ b text
$ a\
/** @} */
d

: text
s/^.*R"(//
/^    R"(/ s///
/^)";/ d
/^constexpr/ d
/SHUFFLENET_MODEL_/ d
/^#endif$/ d
/^#ifdef __cplusplus/ d
/^extern "C" {/ d
/^}$/ d
s/@AT@file/@defgroup model_header Header of a model, name.h/
s/@\(classes\|output_macros\)@//
s/@\(name\)@/name/g
s/@NAME@/NAME/g
s/@output@/output/g
s/@OUTPUT@/OUTPUT/g
s/@network@/NETWORK/g
s/@link_options@/.../g
s/@first_output@/its floats (channels, rows, columns)/g
s/@image_channels@/3/g
s/@isas@/"avx2" and so on/g
s/@height@/HEIGHT/g
s/@width@/WIDTH/g
s/@value@/CLASSES/g
s/@\([a-z_]*\)@/\U\1/g
s/^ \* shufflenet\/model.h with.*\*\/$/&\n\/** @{ *\//
p
