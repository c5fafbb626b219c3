package android.view;

import android.graphics.Insets;

public final class WindowInsets {
    public static final WindowInsets CONSUMED = null; // 30

    public Insets getInsets(int typeMask) { throw null; } // 30

    public static final class Type { // 30
        public static int systemBars() { throw null; }

        public static int displayCutout() { throw null; }

        public static int ime() { throw null; }
    }
}
