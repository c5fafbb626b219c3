package android.window;

public interface OnBackInvokedCallback { // 33
    void onBackInvoked();
}
