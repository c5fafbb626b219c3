import COnnxRuntime
import EdgeBundle
