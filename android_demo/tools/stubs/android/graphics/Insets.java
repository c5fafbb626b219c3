package android.graphics;

public final class Insets { // 29
    public final int left;
    public final int top;
    public final int right;
    public final int bottom;

    private Insets() { throw null; }
}
