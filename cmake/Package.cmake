# cmake --install, and the Debian package: programs, headers, libraries and what shufflenet_add_model() needs, with no
# path in it that would keep the folder from being moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(shufflenet_share "${CMAKE_INSTALL_DATADIR}/shufflenet")
set(shufflenet_objects "${CMAKE_INSTALL_LIBDIR}/shufflenet")
set(shufflenet_cmake "${CMAKE_INSTALL_LIBDIR}/cmake/ShuffleNet")
set(shufflenet_doc "${CMAKE_INSTALL_DATAROOTDIR}/doc/shufflenet")
set(shufflenet_model_headers "${CMAKE_INSTALL_INCLUDEDIR}/shufflenet/models")

# Programs and libraries. The component "tools" is what a cross build wants of its host's package. Model headers have a folder of their own: their names are the users'.
set(programs shufflenet_compile)
set(libraries ${shufflenet_models})
if(SHUFFLENET_CLI)
  list(APPEND programs shufflenet)
endif()
if(SHUFFLENET_IMAGE)
  list(APPEND libraries shufflenet_image)
endif()
foreach(program ${programs})
  # In a cross build some are the host's.
  get_target_property(imported ${program} IMPORTED)
  if(NOT imported)
    install(TARGETS ${program} EXPORT ShuffleNetTargets COMPONENT tools)
  endif()
endforeach()
install(TARGETS ${libraries} EXPORT ShuffleNetTargets
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" "${shufflenet_model_headers}")
install(TARGETS shufflenet_runtime shufflenet_device_runtime EXPORT ShuffleNetTargets OBJECTS DESTINATION "${shufflenet_objects}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
# What shufflenet_compile links a model with where there is no CMake.
install(TARGETS shufflenet_runtime_library ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
get_property(runtime_object TARGET shufflenet_halide_runtime PROPERTY SHUFFLENET_OBJECT)
install(FILES "${runtime_object}" DESTINATION "${shufflenet_objects}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/runtime/include/shufflenet" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(FILES "${SHUFFLENET_VERSION_INCLUDE}/shufflenet/version.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/shufflenet")
foreach(model ${shufflenet_models})
  install(FILES "${PROJECT_BINARY_DIR}/models/${model}/${model}.h" DESTINATION "${shufflenet_model_headers}")
endforeach()

# shufflenet_add_model().
foreach(file Platform.cmake ShuffleNetModel.cmake)
  install(FILES "${CMAKE_CURRENT_LIST_DIR}/${file}" DESTINATION "${shufflenet_share}/cmake")
endforeach()
install(FILES "${CMAKE_CURRENT_LIST_DIR}/toolchain-arm64.cmake" DESTINATION "${shufflenet_share}/cmake" COMPONENT tools)

# The manual page and the shells' completions.
if(SHUFFLENET_CLI)
  install(DIRECTORY "${PROJECT_BINARY_DIR}/runtime/cli/share/" DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}")
endif()

# find_package(ShuffleNet)
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/ShuffleNetConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/ShuffleNetConfig.cmake" INSTALL_DESTINATION "${shufflenet_cmake}"
  PATH_VARS shufflenet_share shufflenet_objects)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/ShuffleNetConfigVersion.cmake" COMPATIBILITY SameMajorVersion)
# A cross build's path has the packages of two processors.
_shufflenet_platform(processor error)
file(RELATIVE_PATH up "/${shufflenet_cmake}" "/")
file(APPEND "${PROJECT_BINARY_DIR}/ShuffleNetConfigVersion.cmake" "
include(\"\${CMAKE_CURRENT_LIST_DIR}/${up}${shufflenet_share}/cmake/Platform.cmake\")
_shufflenet_platform(processor error)
if(NOT processor STREQUAL \"${processor}\")
  string(APPEND PACKAGE_VERSION \" for ${processor}\")
  if(error)
    string(APPEND PACKAGE_VERSION \", but \${error}\")
  endif()
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
")
install(FILES "${PROJECT_BINARY_DIR}/ShuffleNetConfig.cmake" "${PROJECT_BINARY_DIR}/ShuffleNetConfigVersion.cmake"
  DESTINATION "${shufflenet_cmake}")
install(EXPORT ShuffleNetTargets NAMESPACE ShuffleNet:: DESTINATION "${shufflenet_cmake}")

# pkg-config: a file for each library, and "shufflenet", which is all of them.
set(pkgconfig "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH up "/${pkgconfig}" "/")
function(shufflenet_install_pkgconfig name description)
  cmake_parse_arguments(PARSE_ARGV 2 ARG "" "LIBS" "REQUIRES")
  set(text "prefix=\${pcfiledir}/${up}\n"
    "libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}\nincludedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}\n\n"
    "Name: ${name}\nDescription: ${description}\nVersion: ${PROJECT_VERSION}\n")
  if(ARG_LIBS)
    list(APPEND text "Cflags: -I\${includedir} -I\${prefix}/${shufflenet_model_headers}\nLibs: -L\${libdir} ${ARG_LIBS}\n")
  endif()
  if(ARG_REQUIRES)
    list(JOIN ARG_REQUIRES ", " requires)
    list(APPEND text "Requires: ${requires}\n")
  endif()
  string(CONCAT text ${text})
  file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc" CONTENT "${text}" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc" DESTINATION "${pkgconfig}")
endfunction()
foreach(model ${shufflenet_models})
  shufflenet_install_pkgconfig(${model} "The ${model} model" LIBS "-l${model} ${SHUFFLENET_LINK_OPTIONS}")
endforeach()
if(SHUFFLENET_IMAGE)
  shufflenet_install_pkgconfig(shufflenet_image "Images as input of ShuffleNetV2" LIBS "-lshufflenet_image -lstdc++"
    REQUIRES libjpeg libpng)
endif()
shufflenet_install_pkgconfig(shufflenet "${PROJECT_DESCRIPTION}" REQUIRES ${libraries})

# Documentation and examples
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${shufflenet_doc}" RENAME copyright)
install(FILES "${PROJECT_SOURCE_DIR}/CHANGELOG.md" DESTINATION "${shufflenet_doc}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/examples" DESTINATION "${shufflenet_doc}")

# cpack -G DEB
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME shufflenet)
set(CPACK_PACKAGE_CONTACT "The ShuffleNet project authors")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# What linking takes.
set(CPACK_DEBIAN_PACKAGE_DEPENDS "g++")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "cmake, pkg-config")
if(SHUFFLENET_IMAGE)
  string(APPEND CPACK_DEBIAN_PACKAGE_DEPENDS ", libjpeg62-turbo-dev, libpng-dev")
endif()
include(CPack)
