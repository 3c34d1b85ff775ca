# find_package(loopmorph) gives
#
#   loopmorph_add_model(<target> MODEL <model> [STATIC | SHARED] [EMBED_WEIGHTS] [TRUST] [TARGET <processor>...]
#                       [THREADS <n>] [ORIGINAL <model>] [SEED <n>])
#
# a library <target> that computes a network. <model> is what `loopmorph export` takes: the path of a `model.pt` or a
# `.pt2`, package.module:factory (looked for in the present source folder), or a zoo name. What includes <target>.h and
# links the target finds the path of the weights in the macro <TARGET>_WEIGHTS. The library is built again when the
# model, its Python code or loopmorph changes. The project needs the language C.
cmake_minimum_required(VERSION 3.20)
include_guard()

# Where this file was installed to there is the command as well: in an environment, or in a checkout with its own.
get_filename_component(_loopmorph_package "${CMAKE_CURRENT_LIST_DIR}/../../../.." ABSOLUTE)
find_program(LOOPMORPH_COMMAND loopmorph
  HINTS "$ENV{VIRTUAL_ENV}/bin" "${_loopmorph_package}/.venv/bin" "${_loopmorph_package}/../../../../bin"
  DOC "The command that exports networks")
unset(_loopmorph_package)
if(NOT LOOPMORPH_COMMAND)
  set(loopmorph_FOUND FALSE)
  set(loopmorph_NOT_FOUND_MESSAGE "the command loopmorph is not found; name it with -DLOOPMORPH_COMMAND=...")
  return()
endif()

function(loopmorph_add_model target)
  cmake_parse_arguments(PARSE_ARGV 1 arg
    "STATIC;SHARED;EMBED_WEIGHTS;TRUST" "MODEL;THREADS;ORIGINAL;SEED" "TARGET")
  if(NOT arg_MODEL OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "loopmorph_add_model(${target} ...): expected MODEL and its value, "
                        "got '${arg_MODEL}' '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(arg_KEYWORDS_MISSING_VALUES OR (arg_STATIC AND arg_SHARED))
    message(FATAL_ERROR "loopmorph_add_model(${target} ...): expected a value after '${arg_KEYWORDS_MISSING_VALUES}', "
                        "and at most one of STATIC and SHARED")
  endif()
  set(model "${arg_MODEL}")
  set(depends)
  get_filename_component(file "${model}" ABSOLUTE)
  if(EXISTS "${file}" AND NOT IS_DIRECTORY "${file}")
    set(model "${file}")
    set(depends "${file}")
  endif()
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}.loopmorph")
  set(made "${folder}/${target}.h" "${folder}/${target}.c" "${folder}/${target}_code.o")
  string(TOUPPER "${target}" upper)
  if(arg_EMBED_WEIGHTS)
    set(options --weights embedded)
    set(weights NULL)
  else()
    set(options --weights file)
    list(APPEND made "${folder}/${target}.safetensors")
    set(weights "\"${folder}/${target}.safetensors\"")
  endif()
  list(JOIN arg_TARGET "," arg_TARGET)
  if(arg_TARGET STREQUAL "")
    unset(arg_TARGET)
  endif()
  foreach(option IN ITEMS TARGET THREADS ORIGINAL SEED)
    if(DEFINED arg_${option})
      string(TOLOWER "--${option}" word)
      list(APPEND options ${word} "${arg_${option}}")
    endif()
  endforeach()
  if(arg_TRUST)
    list(APPEND options --trust)
  endif()

  add_custom_command(OUTPUT ${made}
    COMMAND "${LOOPMORPH_COMMAND}" export "${model}" -o "${folder}" --name ${target} --format object ${options}
    DEPENDS ${depends}
    DEPFILE "${folder}/${target}.d"
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    COMMENT "Exporting ${arg_MODEL} as ${target}"
    VERBATIM)
  set(type)
  if(arg_STATIC)
    set(type STATIC)
  elseif(arg_SHARED)
    set(type SHARED)
  endif()
  set_source_files_properties("${folder}/${target}_code.o" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  add_library(${target} ${type} ${made})
  set_target_properties(${target} PROPERTIES C_STANDARD 11 C_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON)
  target_include_directories(${target} PUBLIC "${folder}")
  target_compile_definitions(${target} INTERFACE "${upper}_WEIGHTS=${weights}")
  target_link_libraries(${target} PUBLIC m pthread)
endfunction()
