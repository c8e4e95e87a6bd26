# Links INPUTS into OUTPUT and renames every symbol of Halide's runtime: halide_* becomes shufflenet_halide_*, and so do
# its C++ internals, which are weak and would be merged with those of another version in the same program.
# Variables: OUTPUT, INPUTS, LD, NM, OBJCOPY.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result ERROR_VARIABLE error OUTPUT_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGV}: ${error}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(linked "${OUTPUT}.linked")
run("${LD}" -r -o "${linked}" ${INPUTS})
run("${NM}" --extern-only --format=posix "${linked}")
string(REGEX MATCHALL "(^|\n)(_?halide_|_Z[A-Z]*6Halide7Runtime|copy_to_device_already_locked)[^ ]*" symbols "${output}")
set(renames "")
foreach(symbol ${symbols})
  string(STRIP "${symbol}" symbol)
  string(APPEND renames "${symbol} shufflenet_${symbol}\n")
endforeach()
file(WRITE "${OUTPUT}.renames" "${renames}")
run("${OBJCOPY}" "--redefine-syms=${OUTPUT}.renames" "${linked}" "${OUTPUT}")
file(REMOVE "${linked}" "${OUTPUT}.renames")
