# SPDX-License-Identifier: BSL-1.0
#
# phasebit::<room> for every room that exists, phasebit::freestanding for those that need no
# operating system, and phasebit::phasebit for all that need nothing but the standard library.
include(${CMAKE_CURRENT_LIST_DIR}/rooms.cmake)

set(PHASEBIT_INCLUDE_DIR ${PROJECT_SOURCE_DIR}/include)

# One INTERFACE target: its headers, C++20 and what it links. Nothing else reaches the user.
function(phasebit_interface_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;LINKS")
  add_library(phasebit_${name} INTERFACE)
  add_library(phasebit::${name} ALIAS phasebit_${name})
  set_target_properties(phasebit_${name} PROPERTIES EXPORT_NAME ${name})
  target_sources(phasebit_${name} INTERFACE
    FILE_SET HEADERS BASE_DIRS ${PHASEBIT_INCLUDE_DIR} FILES ${arg_HEADERS})
  target_compile_features(phasebit_${name} INTERFACE cxx_std_20)
  target_link_libraries(phasebit_${name} INTERFACE ${arg_LINKS})
endfunction()

set(PHASEBIT_ROOMS "")               # the rooms that exist, hosted only where its libraries do
set(PHASEBIT_PACKAGED_ROOMS "")      # the same without hosted
set(freestanding_rooms "")
set(plain_rooms "")

foreach(row IN LISTS PHASEBIT_ROOM_TABLE)
  string(REGEX MATCH "^([a-z_]+) *\\| *([0-9]+) *\\| *([a-z_/]+) *\\| *(.*)$" matched "${row}")
  set(room ${CMAKE_MATCH_1})
  set(layer ${CMAKE_MATCH_2})
  set(folder ${CMAKE_MATCH_3})
  string(REGEX MATCHALL "[a-z_]+" needs "${CMAKE_MATCH_4}")
  if(needs STREQUAL "below")
    set(needs ${rooms_below_${layer}})
  endif()
  math(EXPR above "${layer} + 1")
  foreach(l RANGE ${above} 6)
    list(APPEND rooms_below_${l} ${room})
  endforeach()

  file(GLOB_RECURSE headers CONFIGURE_DEPENDS
    ${PHASEBIT_INCLUDE_DIR}/phasebit/${folder}/*.hpp)
  file(GLOB front CONFIGURE_DEPENDS ${PHASEBIT_INCLUDE_DIR}/phasebit/${folder}.hpp)
  list(APPEND headers ${front})
  if(NOT headers)
    continue()
  endif()
  if(room STREQUAL "core")
    foreach(h config version)
      list(APPEND headers ${PHASEBIT_INCLUDE_DIR}/phasebit/${h}.hpp)
    endforeach()
  endif()

  set(links "")
  foreach(need IN LISTS needs)
    if(TARGET phasebit_${need})
      list(APPEND links phasebit_${need})
    endif()
  endforeach()

  if(room STREQUAL "hosted")
    find_package(fmt QUIET)
    find_package(Boost QUIET)
    if(NOT TARGET fmt::fmt OR NOT TARGET Boost::headers)
      message(STATUS "phasebit: no phasebit::hosted (it needs libfmt-dev and libboost-dev)")
      continue()
    endif()
    list(APPEND links fmt::fmt Boost::headers)
  else()
    list(APPEND PHASEBIT_PACKAGED_ROOMS ${room})
    list(APPEND plain_rooms phasebit_${room})
    if(layer LESS_EQUAL PHASEBIT_LAST_FREESTANDING_LAYER)
      list(APPEND freestanding_rooms phasebit_${room})
    endif()
  endif()
  phasebit_interface_library(${room} HEADERS ${headers} LINKS ${links})
  list(APPEND PHASEBIT_ROOMS ${room})
endforeach()

phasebit_interface_library(freestanding
  HEADERS ${PHASEBIT_INCLUDE_DIR}/phasebit/freestanding.hpp LINKS ${freestanding_rooms})
phasebit_interface_library(phasebit
  HEADERS ${PHASEBIT_INCLUDE_DIR}/phasebit/phasebit.hpp LINKS phasebit_freestanding ${plain_rooms})
list(APPEND PHASEBIT_PACKAGED_ROOMS freestanding phasebit)
