# Makes OUTPUT of a kernel's assembly, INPUT. Halide can only ask for prefetching around the second-level cache, but
# weights are read again by the next tile of pixels: there they must be. Variables: OUTPUT, INPUT, CXX, and optionally
# FLAGS, a list for the assembler's driver.
file(READ "${INPUT}" assembly)
string(REPLACE "prefetchnta\t" "prefetcht1\t" assembly "${assembly}")
file(WRITE "${INPUT}" "${assembly}")
execute_process(COMMAND "${CXX}" ${FLAGS} -c "${INPUT}" -o "${OUTPUT}" RESULT_VARIABLE result ERROR_VARIABLE error)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${INPUT}: ${error}")
endif()
file(REMOVE "${INPUT}")
