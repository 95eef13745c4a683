#include "server/rpc/version.h"

namespace ebbinghaus::rpc {

const char* Version() { return EBBINGHAUS_VERSION; }

}  // namespace ebbinghaus::rpc
