"""The chapter "Residual Networks" of Dive into Deep Learning in TensorFlow: blocks, shapes, training, evaluation.

python examples/chapter_tensorflow.py                                               # the chapter's run: hours without a GPU
python examples/chapter_tensorflow.py --data digits --image-size 32 --epochs 2      # the same in a minute, without a network
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # fast convolutions on processors without AVX-512 too

import keras
import numpy as np

import residual


def residual_block(channels: int, out: int, stride: int = 1) -> keras.Model:
    """The chapter's `Residual(out, use_1x1conv=..., strides=stride)`: the 1x1 convolution stands wherever the shape changes."""
    arch = residual.architecture(
        "resnet18_d2l", in_channels=channels, stem="cifar", stem_width=channels,
        depths=(1,), inner_widths=(out,), out_widths=(out,), strides=(stride,),
    )  # fmt: skip
    net = residual.create(arch, backend="tensorflow")
    return keras.Model(net.get_layer("relu").output, net.get_layer("layer1.0.relu").output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", help="folder of the run; runs/DATA-resnet18_d2l-N where none is named")
    options = parser.parse_args()

    # 1. The residual block keeps the shape, or with stride 2 and a 1x1 convolution halves height and width.
    images = np.random.rand(4, 6, 6, 3)  # height, width, channels: Keras' order
    print("Residual(3)                    ", tuple(residual_block(3, 3)(images).shape))
    print("Residual(6, 1x1 conv, stride 2)", tuple(residual_block(3, 6, stride=2)(images).shape))

    # 2. The network: what each part puts out for one grey picture of 224 x 224.
    net = residual.create("resnet18_d2l", backend="tensorflow")
    names = ["conv1", "bn1", "relu", "maxpool", *(f"layer{stage}.1.relu" for stage in (1, 2, 3, 4)), "avgpool", "fc"]
    parts = keras.Model(net.input, [net.get_layer(name).output for name in names])
    for name, x in zip(names, parts(np.random.rand(1, 224, 224, 1)), strict=True):
        print(f"{name:13} output shape {tuple(x.shape)}")

    # 3. Training as in the chapter: SGD, learning rate 0.05, batches of 256, cross-entropy, no augmentation.
    run = residual.train(
        options.data, recipe="d2l", backend="tensorflow", image_size=options.image_size, epochs=options.epochs, out=options.out
    )
    for epoch in run.events():
        speed = f"{epoch.images_per_second:.0f} examples/s"
        print(f"epoch {epoch.epoch}: loss {epoch.train_loss:.3f}, train acc {epoch.train_accuracy:.3f}, {speed}")

    # 4. The test accuracy of the trained net, and the net itself, which is TensorFlow's own.
    print(f"test acc {residual.evaluate(run, backend='tensorflow').top1:.3f}")
    model = residual.load(run, backend="tensorflow")
    print(f"{sum(int(np.prod(v.shape)) for v in model.trainable_variables):,} parameters in a keras.Model")


if __name__ == "__main__":
    main()
