package android.graphics;

import android.util.Size;
import java.io.File;
import java.io.IOException;

public final class ImageDecoder implements AutoCloseable { // 28
    public static final int ALLOCATOR_SOFTWARE = 1;

    public static abstract class Source {}

    public static class ImageInfo {
        public Size getSize() { throw null; }
    }

    public interface OnHeaderDecodedListener {
        void onHeaderDecoded(ImageDecoder decoder, ImageInfo info, Source source);
    }

    public static Source createSource(File file) { throw null; }

    public static Bitmap decodeBitmap(Source source, OnHeaderDecodedListener listener) throws IOException { throw null; }

    public void setAllocator(int allocator) { throw null; }

    public int getAllocator() { throw null; }

    public void setTargetColorSpace(ColorSpace colorSpace) { throw null; }

    public void setTargetSampleSize(int sampleSize) { throw null; }

    public void setMutableRequired(boolean mutable) { throw null; }

    public boolean isMutableRequired() { throw null; }

    public void close() { throw null; }
}
