// The version of this build, as CMakeLists.txt has it.
#pragma once

namespace ebbinghaus::rpc {

const char* Version();

}  // namespace ebbinghaus::rpc
