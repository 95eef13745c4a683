# Debian 13's gRPC asks CMake for the package re2, which ships only a pkg-config file.
find_package(PkgConfig REQUIRED)
# Not with the prefix `re2`: its cached re2_FOUND would keep gRPC from looking here again at the next configure.
pkg_check_modules(EBBINGHAUS_RE2 REQUIRED IMPORTED_TARGET re2)
if(NOT TARGET re2::re2)
  add_library(re2::re2 INTERFACE IMPORTED)
  target_link_libraries(re2::re2 INTERFACE PkgConfig::EBBINGHAUS_RE2)
endif()
