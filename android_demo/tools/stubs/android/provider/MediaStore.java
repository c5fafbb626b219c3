package android.provider;

public final class MediaStore {
    public static final String ACTION_PICK_IMAGES = "android.provider.action.PICK_IMAGES"; // 33
    public static final String EXTRA_PICK_IMAGES_MAX = "android.provider.extra.PICK_IMAGES_MAX"; // 33
}
