# shufflenet_add_block_kernels(TARGET [ISA SET]...)
#
# Makes the library TARGET of the kernels of blocks (networks/guidelines.h), for each instruction set those of a set:
# "small", "quick", "experiments" or "all". The tables say which these are: a program that prints them is compiled and run
# when the build is configured.
function(shufflenet_add_block_kernels target)
  set(dir "${CMAKE_CURRENT_BINARY_DIR}/${target}")
  file(MAKE_DIRECTORY "${dir}")
  set(source "${PROJECT_SOURCE_DIR}/cmake/list_block_kernels.cc")
  file(GLOB tables "${PROJECT_SOURCE_DIR}/networks/*.h")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source} ${tables})
  set(program "${PROJECT_BINARY_DIR}/list_block_kernels")
  set(stale FALSE)
  foreach(file "${source}" ${tables})
    if("${file}" IS_NEWER_THAN "${program}")
      set(stale TRUE)
    endif()
  endforeach()
  if(stale)
    # It runs here, whatever the target.
    set(compiler "${CMAKE_CXX_COMPILER}")
    if(CMAKE_CROSSCOMPILING)
      set(compiler c++)
    endif()
    execute_process(COMMAND "${compiler}" -std=c++20 -I "${PROJECT_SOURCE_DIR}" -I "${SHUFFLENET_VERSION_INCLUDE}"
      "${source}" -o "${program}"
      RESULT_VARIABLE result ERROR_VARIABLE error)
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "${source}: ${error}")
    endif()
  endif()

  set(objects "")
  set(declarations "")
  set(rows "")
  while(ARGN)
    list(POP_FRONT ARGN isa set)
    execute_process(COMMAND "${program}" ${set} OUTPUT_VARIABLE lines COMMAND_ERROR_IS_FATAL ANY)
    string(STRIP "${lines}" lines)
    string(REPLACE "\n" ";" lines "${lines}")
    set(isa_objects "")
    foreach(line ${lines})
      string(REGEX MATCH "^[^|]+" kernel "${line}")
      _shufflenet_generate(object "${dir}" ${isa} "${line}" NAME ${target})
      list(APPEND isa_objects "${object}")
      string(APPEND declarations "int ${target}_${isa}_${kernel}_argv(void **arguments);\n")
      string(APPEND rows "    {\"${kernel}\", \"${isa}\", ${target}_${isa}_${kernel}_argv},\n")
    endforeach()
    set(object "${dir}/${target}_${isa}.o")
    shufflenet_rename_halide(OUTPUT "${object}" INPUTS ${isa_objects})
    list(APPEND objects "${object}")
  endwhile()
  file(CONFIGURE OUTPUT "${dir}/${target}.cc" CONTENT
"// Generated: kernels of blocks.
#include \"bench/block_runner.h\"
extern \"C\" {
${declarations}}
namespace shufflenet::bench {
std::span<const BlockKernel> ${target}() {
    static const BlockKernel all[] = {
${rows}    };
    return all;
}
}
" @ONLY)
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  add_library(${target} STATIC "${dir}/${target}.cc" "${PROJECT_SOURCE_DIR}/bench/block_runner.cc" ${objects})
  target_include_directories(${target} PUBLIC "${PROJECT_SOURCE_DIR}/runtime/include" "${PROJECT_SOURCE_DIR}/runtime/src"
    $<TARGET_PROPERTY:Halide::Halide,INTERFACE_INCLUDE_DIRECTORIES>)
  target_link_libraries(${target} PUBLIC shufflenet_options)
  # The reference that blocks are checked against is naive, and slow without this.
  target_compile_options(${target} PRIVATE -O2)
endfunction()
