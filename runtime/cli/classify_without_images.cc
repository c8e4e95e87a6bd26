// shufflenet classify, in a build that cannot read images.
#include "commands.h"
#include "error.h"

namespace shufflenet::cli {

int classify(const ClassifyOptions & /*options*/) {
    throw Error("classify: this build reads no images (SHUFFLENET_IMAGE=OFF); 'shufflenet run' takes tensors");
}

}  // namespace shufflenet::cli
