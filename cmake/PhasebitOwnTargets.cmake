# SPDX-License-Identifier: BSL-1.0
#
# For the executables of this tree only (tests, benches, examples): warnings as errors, which are
# never put on a target that a user links.
option(PHASEBIT_WERROR "Warnings are errors in our own tests, benches and examples" ON)

add_library(phasebit_own_options INTERFACE)
target_compile_options(phasebit_own_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${PHASEBIT_WERROR}>:-Werror>)

set(CMAKE_CXX_EXTENSIONS OFF)

find_package(Threads REQUIRED)

# An executable that may use every room there is.
function(phasebit_own_executable name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE phasebit::phasebit phasebit_own_options Threads::Threads)
  if(TARGET phasebit::hosted)
    target_link_libraries(${name} PRIVATE phasebit::hosted)
  endif()
endfunction()

# How to get a library that is missing, said where it is missed.
function(phasebit_find_or_explain package debian_package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "phasebit: ${package} was not found; on Debian and Ubuntu: "
      "apt-get install ${debian_package}")
  endif()
endfunction()
