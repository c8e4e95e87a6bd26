# Links INPUTS into OUTPUT, hides every symbol from users of a shared library that contains it, and renames those of
# Halide's runtime: halide_* becomes PREFIX_halide_*, and so do its C++ internals, which are weak and would be merged with
# those of another version in the same program.
# With KEEP, a regular expression, only the functions of that name are kept, and what they use; INPUTS is then one file.
# Variables: OUTPUT, INPUTS, PREFIX, KEEP, CXX, LD, NM, OBJCOPY.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result ERROR_VARIABLE error OUTPUT_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGV}: ${error}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(linked "${OUTPUT}.linked")
set(inputs ${INPUTS})
set(roots "")
if(KEEP)
  run("${NM}" --format=posix --defined-only ${INPUTS})
  string(REGEX MATCHALL "(^|\n)${KEEP} " names "${output}")
  list(TRANSFORM names STRIP)
  list(TRANSFORM names PREPEND "--undefined=")
  # Functions that the program's end would call are nobody's roots here.
  set(inputs "${OUTPUT}.input")
  run("${OBJCOPY}" --remove-section=.fini_array --remove-section=.rela.fini_array ${INPUTS} "${inputs}")
  set(roots --gc-sections ${names})
endif()
run("${LD}" -r ${roots} -o "${linked}" ${inputs})
if(KEEP)
  run("${OBJCOPY}" --strip-unneeded "${linked}")
  file(REMOVE "${inputs}")
endif()
run("${NM}" --extern-only --format=posix "${linked}")
string(REGEX MATCHALL "(^|\n)(_?halide_|_Z[A-Z]*6Halide7Runtime|copy_to_device_already_locked)[^ ]*" symbols "${output}")
set(renames "")
foreach(symbol ${symbols})
  string(STRIP "${symbol}" symbol)
  string(APPEND renames "${symbol} ${PREFIX}_${symbol}\n")
endforeach()
file(WRITE "${OUTPUT}.renames" "${renames}")
run("${OBJCOPY}" "--redefine-syms=${OUTPUT}.renames" "${linked}")

# The linker gives a symbol the strictest visibility that any of its inputs asks for.
run("${NM}" --extern-only --defined-only --format=posix "${linked}")
string(REGEX REPLACE "([^\n ]+) [^\n]*" "    .globl \\1\n    .hidden \\1" hidden "${output}")
file(WRITE "${OUTPUT}.hidden.s" "${hidden}    .section .note.GNU-stack,\"\",@progbits\n")
run("${CXX}" -c "${OUTPUT}.hidden.s" -o "${OUTPUT}.hidden.o")
run("${LD}" -r -o "${OUTPUT}" "${linked}" "${OUTPUT}.hidden.o")
file(REMOVE "${linked}" "${OUTPUT}.renames" "${OUTPUT}.hidden.s" "${OUTPUT}.hidden.o")
