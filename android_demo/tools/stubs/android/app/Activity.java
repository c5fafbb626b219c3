package android.app;

import android.view.View;
import android.window.OnBackInvokedDispatcher;

public class Activity extends android.view.ContextThemeWrapper {
    public <T extends View> T findViewById(int id) { throw null; } // generic since 26

    public OnBackInvokedDispatcher getOnBackInvokedDispatcher() { throw null; } // 33
}
